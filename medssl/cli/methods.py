"""The catalogue on the command line."""

from __future__ import annotations

import typer

from medssl.cli.parse import say, say_text


def methods(
    name: str | None = typer.Argument(None, help="Show the card and recipe of this method."),
    as_json: bool = typer.Option(False, "--json", help="For programs."),
) -> None:
    """List the methods, or show one: the idea, its arguments, the paper and its recipe.

    \b
    Examples:
      medssl methods
      medssl methods exponential
      medssl methods --json
    """
    import json

    from medssl.recipe.catalog import CATALOG, entry

    if name is None:
        rows = [{"name": e.name, "family": e.family, "line": e.line, "paper": e.paper} for e in CATALOG.values()]
        if as_json:
            say_text(json.dumps(rows, indent=2))
            return
        width = max(len(r["name"]) for r in rows)
        for family in dict.fromkeys(r["family"] for r in rows):
            say_text(f"\n{family}")
            for r in (r for r in rows if r["family"] == family):
                say_text(f"  {r['name']:<{width}}  {r['line']}\n  {'':<{width}}  {r['paper']}")
        return
    _card(entry(name).name, as_json)


def _card(name: str, as_json: bool) -> None:
    import inspect
    import json

    from medssl.checks import declared, describe
    from medssl.recipe.catalog import entry, shown
    from medssl.recipe.model import recipe_path
    from medssl.views.table import VIEWS

    found = entry(name)
    recipe = recipe_path(name).read_text(encoding="utf-8")
    arguments = {k: None if p.default is p.empty else p.default for k, p in found.arguments().items()}
    ranges = {key: describe(kind) for key, kind in declared(found.load()).items() if key in arguments}
    shown_as = shown(name, {})
    views = {"maker": shown_as.maker, **shown_as.arguments, "a recipe may change": list(shown_as.free)}
    card = {
        "name": name,
        "family": found.family,
        "line": found.line,
        "paper": found.paper,
        "needs": found.load().needs,
        "views": views,
        "fixed": dict(found.fixed),
        "arguments": arguments,
        "ranges": ranges,
        "description": inspect.getdoc(found.load()),
        "recipe": recipe,
    }
    if as_json:
        say_text(json.dumps(card, indent=2, default=str))
        return
    say_text(f"{name} ({found.family}): {found.line}\n{found.paper}\n\n{card['description']}")
    rest = ", ".join(f"{key} {value}" for key, value in shown_as.arguments.items())
    say_text(f"\nViews: {shown_as.maker} ({rest}): {VIEWS[shown_as.maker].line}")
    if shown_as.free:
        say_text(f"A recipe may change views.{', views.'.join(shown_as.free)}.")
    say_text("\nArguments (method.*):")
    for key, value in arguments.items():
        say(f"  {key} = {json.dumps(value)}: {ranges[key]}")
    say_text(f"\nRecipe ({recipe_path(name)}):\n\n{recipe}")
