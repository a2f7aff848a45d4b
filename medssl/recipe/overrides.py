"""Changes of a recipe from the command line: ``optim.lr=1e-3``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from medssl.documents.yaml_file import parse_yaml
from medssl.errors import RecipeError


def assigned(key: str, value: object) -> str:
    """The override that gives a key this very value, whatever characters a path or text of it has.

    >>> assigned("output", "runs/a: b #c")
    'output="runs/a: b #c"'
    """
    plain = value if isinstance(value, bool | int | float | list | dict | None) else str(value)
    return f"{key}={json.dumps(plain, ensure_ascii=False)}"


def apply_override(content: dict[str, Any], override: str) -> None:
    """Write the value of ``a.b.c=value`` into nested plain values; RecipeError where it has no place."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        meant = override if not equals and override.endswith((".csv", ".tsv")) else ""
        such = f"data.manifest={meant}" if meant else "optim.lr=1e-3"
        raise RecipeError(f"override '{override}' must read key=value, such as {such}")
    value = parse_yaml(text, f"override '{override:.200}'", lines=False)
    node: Any = content
    *parents, last = key.split(".")
    for name in parents:
        node = _child(node, name, override)
    if node is content and last in ("method", "encoder") and isinstance(value, str):
        value = {"name": value}
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    else:
        raise RecipeError(f"override '{override}': '{last}' is not inside a mapping; write the whole value instead")


def _child(node: Any, name: str, override: str) -> Any:
    if isinstance(node, dict):
        child = node.get(name)
        if isinstance(child, str) and name in ("method", "encoder"):
            child = {"name": child}
        node[name] = {} if child is None else child
        return node[name]
    if isinstance(node, list) and name.isdigit() and int(name) < len(node):
        return node[int(name)]
    raise RecipeError(f"override '{override}': '{name}' is not inside a mapping; write the whole value instead")


def blamed(problem: RecipeError, path: str, overrides: Sequence[str]) -> RecipeError:
    """The same error, which names the override that it comes from instead of the recipe file."""
    text = str(problem)
    keys = re.findall(r"'([\w.]+)'|\b((?:\w+\.)+\w+)", text.removeprefix(path))
    named = {a or b for a, b in keys}
    for override in overrides:
        key, _, value = override.partition("=")
        by_key = any(name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in named)
        if by_key or value in named:
            return RecipeError(text.replace(path, f"override '{override}'", 1))
    return problem
