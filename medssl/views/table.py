"""The view makers by name, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from medssl.checks import check_arguments, declared, nearest, short
from medssl.errors import RecipeError
from medssl.types import Shown

if TYPE_CHECKING:
    from medssl.views.base import MakesViews
    from medssl.views.policies import Policy


class Line(NamedTuple):
    """Where a maker is, and what it shows."""

    target: str
    line: str


VIEWS: Mapping[str, Line] = {
    "pair": Line("medssl.views.pair:ViewMaker", "views of the whole scan, each by the policy anew"),
    "multicrop": Line("medssl.views.multicrop:MultiCrop", "a few large crops beside many small ones"),
}
_OWN = ("policy", "wants", "seed", "policies")
"""Fields that no recipe sets under ``views``."""


def maker_of(name: str) -> type[MakesViews]:
    """The class of a maker; RecipeError naming the nearest known one."""
    if name not in VIEWS:
        raise RecipeError(f"views.maker is {short(name)}, which is unknown; {nearest(name, VIEWS)}")
    module, _, cls = VIEWS[name].target.partition(":")
    loaded: type[MakesViews] = getattr(import_module(module), cls)
    return loaded


def check_views(shown: Shown, given: Mapping[str, Any]) -> Shown:
    """The same with the arguments that a recipe gives, in the types that the maker declares.

    Errors: RecipeError for one that the maker does not have or the method fixes, and for one out of its range.
    """
    known = {key: kind for key, kind in declared(maker_of(shown.maker)).items() if key not in _OWN}
    for key in given:
        if key in known and key not in shown.free:
            may = f"it leaves {', '.join(shown.free)}" if shown.free else "it leaves none of them to the recipe"
            raise RecipeError(f"views.{key} is fixed by the method; {may}")
    arguments = check_arguments("views", shown.maker, known, {**shown.arguments, **given}, RecipeError)
    return replace(shown, arguments=arguments)


def build_views(
    shown: Shown, policy: Policy, *, wants: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0
) -> MakesViews:
    """The maker that a method asks for."""
    arguments = check_views(shown, {}).arguments
    return maker_of(shown.maker)(policy, **arguments, wants=dict(wants or {}), seed=seed)
