"""Ranges and choices: what a value must be is declared once, as its type, and checked everywhere in the same way.

An argument says its range in its annotation (``temperature: Temperature = 0.1``, ``norm: Literal["batch", "group"]``).
Everything else follows from that: recipes, presets and studies (pydantic reads these types), the arguments of methods,
encoders, transforms and kernels (``check``, ``check_arguments``, ``check_fields``), the sentence that a user reads, and
the ranges that ``medssl methods NAME`` prints (``describe``). A whole number may be written as 3.0; text is never a
number, and neither is true or false. Nothing heavy is imported until a value is checked.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

from medssl.checks.rules import Interval, Keyed, Listed, Pair, Rule, Text, YesNo, describe, is_ranged
from medssl.checks.words import clipped, fault, near, nearest, short, written
from medssl.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

P = ParamSpec("P")
R = TypeVar("R")
Number = Annotated[int | float, Interval()]
Positive = Annotated[float, Interval(0, above=True)]
NotNegative = Annotated[float, Interval(0)]
Share = Annotated[float, Interval(0, 1, below=True)]
Part = Annotated[float, Interval(0, 1, above=True, below=True)]
"""A share that leaves something on both sides."""
Fraction = Annotated[float, Interval(0, 1)]
Weight = Annotated[float, Interval(0, 1e6)]
"""A factor before a term of a loss."""
Small = Annotated[float, Interval(1e-12, 1)]
"""What is added so that nothing is divided by zero."""
Temperature = Annotated[float, Interval(0.001, 100)]
Seconds = Annotated[float, Interval(0, 1e7, above=True, unit="seconds")]
Count = Annotated[int, Interval(1, 10**9)]
CountOrZero = Annotated[int, Interval(0, 10**9)]
Processes = Annotated[int, Interval(1, 1024)]
ProcessesOrNone = Annotated[int, Interval(0, 1024)]
Seed = Annotated[int, Interval(0, 2**63 - 1)]
SolverSeed = Annotated[int, Interval(0, 2**32 - 1)]
"""What scikit-learn takes as a seed."""
Resamples = Annotated[int, Interval(0, 10**6)]
"""Bootstrap samples; 0 for no intervals."""
Width = Annotated[int, Interval(1, 16384)]
"""Channels or units of a layer."""
Depth = Annotated[int, Interval(1, 200)]
"""Layers or blocks of a stage."""
Heads = Annotated[int, Interval(1, 128)]
"""Attention heads of a layer."""
Sizes = Annotated[Sequence[Width], Listed(1, 16)]
"""Units of layers, one after another."""
Units = Annotated[Sequence[Width | Literal["width"]], Listed(1, 16)]
"""Units of layers behind an encoder, one after another; "width" is as many as the encoder has features."""
Dims = Annotated[Sequence[Count], Listed(2, 17)]
"""Sizes of a perceptron from its input to its output."""
Grid = Annotated[tuple[Count, Count, Count], Listed(3, 3)]
"""Voxels or tokens along D, H, W."""
Intensity = Annotated[float, Interval(-1e6, 1e6)]
"""A value of voxels."""
Flag = Annotated[bool, YesNo()]
Column = Annotated[str, Text("the name of a column of the manifest")]
Columns = Annotated[tuple[Column, ...], Listed(1, 64, unique=True)]
Pattern = Annotated[str, Text("the name of a column, or a pattern of names such as GM_*")]
Side = Annotated[int, Interval(1, 2048, unit="voxels")]
Voxels = Annotated[tuple[Side, Side, Side], Listed(3, 3, one=True)]
"""Size along D, H, W; one number stands for all three."""
_Millimetre = Annotated[float, Interval(0.01, 100, unit="mm")]
Millimetres = Annotated[tuple[_Millimetre, _Millimetre, _Millimetre], Listed(3, 3, one=True)]
"""Size of a voxel along D, H, W; one number stands for all three."""
Spacing = Annotated[float, Interval(1, 8, unit="mm")]
"""Size of a voxel of a synthetic cohort."""


def check(where: str, value: Any, annotation: Any, error: type[UserError] = UserError, hint: str = "") -> Any:
    """The value in the declared type; ``error`` with one sentence that names ``where``, the value and the rule.

    >>> check("method.temperature", -1, Temperature)
    Traceback (most recent call last):
    medssl.errors.UserError: method.temperature is -1, but it must be a number from 0.001 to 100
    """
    from pydantic import ValidationError

    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as problem:
        place, given, rule = fault(problem, value)
        raise error(f"{'.'.join((where, *place))} is {short(given)}, but {rule}{hint}") from None


def check_arguments(
    where: str,
    name: str,
    known: Mapping[str, Any],
    given: Mapping[str, Any],
    error: type[UserError] = UserError,
    hint: str = "",
) -> dict[str, Any]:
    """Arguments of ``name`` in their declared types (``known``); ``error`` for an unknown one or one out of range."""
    for key in given:
        if key not in known:
            raise error(f"{where}.{clipped(key)} is no argument of '{name}'; {nearest(key, known, f'{where}.')}")
    return {key: check(f"{where}.{key}", value, known[key], error, hint) for key, value in given.items()}


def check_fields(owner: Any, where: str, error: type[UserError] = UserError) -> None:
    """Bring the fields of a frozen dataclass into their declared types; ``error`` names ``where`` and the field."""
    for name, annotation in declared(type(owner)).items():
        value = check(f"{where}.{name}", getattr(owner, name), annotation, error)
        object.__setattr__(owner, name, value)


def declared(what: Callable[..., Any]) -> Mapping[str, Any]:
    """The declared types of the fields of a dataclass, or of the keyword-only arguments of a function or a class."""
    return _declared(what)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: check keyword-only arguments against their declared types (UserError) before the function runs."""

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        kinds = {k: kind for k, kind in declared(function).items() if is_ranged(kind)}
        for name in given.keys() & kinds.keys():
            given[name] = check(name, given[name], kinds[name])
        return function(*args, **given)

    return call


@cache
def _declared(what: Any) -> Mapping[str, Any]:
    called = inspect.getattr_static(what, "__init__") if isinstance(what, type) else what
    hints = typing.get_type_hints(what if is_dataclass(what) else called, include_extras=True)
    if is_dataclass(what):
        return {field.name: hints[field.name] for field in fields(what) if field.init}
    return {p.name: hints[p.name] for p in inspect.signature(called).parameters.values() if p.kind is p.KEYWORD_ONLY}


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


__all__ = [
    "Interval", "Keyed", "Listed", "Pair", "Rule", "Text", "YesNo",
    "check", "check_arguments", "check_fields", "checked", "clipped", "declared", "describe", "fault", "is_ranged",
    "near", "nearest", "short", "written",
]  # fmt: skip
