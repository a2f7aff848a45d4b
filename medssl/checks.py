"""Ranges and choices: what a value must be is declared once, as its type, and checked everywhere in the same way.

An argument says its range in its annotation (``temperature: Temperature = 0.1``, ``norm: Literal["batch", "group"]``).
Everything else follows from that: recipes, presets and studies (pydantic reads these types), the arguments of methods,
encoders, transforms and kernels (``check``, ``check_arguments``, ``check_fields``), the sentence that a user reads, and
the ranges that ``medssl methods NAME`` prints (``describe``). A whole number may be written as 3.0; text is never a
number, and neither is true or false. Nothing heavy is imported until a value is checked.
"""

from __future__ import annotations

import difflib
import inspect
import math
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial, wraps
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar

from medssl.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


class Rule:
    """What a value must be: stands in ``Annotated[kind, rule]``, is read by pydantic, and says itself in words."""

    entries: ClassVar[bool] = False  # whether pydantic goes on to check the entries against the kind

    def words(self, kind: Any = float) -> str:
        """What is allowed, such as "a whole number from 1 to 64"."""
        return self._words(kind)

    def check(self, value: Any, kind: Any = float) -> Any:
        """The value as ``kind``; ValueError with the rule."""
        try:
            return self._take(value, kind)
        except (OverflowError, TypeError, ValueError):
            raise ValueError(f"it must be {self._words(kind)}{_mistaken(value)}") from None

    def _words(self, kind: Any) -> str:
        raise NotImplementedError

    def _take(self, value: Any, kind: Any) -> Any:
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Read by pydantic."""
        from pydantic_core import core_schema

        check = partial(self.check, kind=source)
        if self.entries:
            return core_schema.no_info_before_validator_function(check, handler(source))
        return core_schema.no_info_plain_validator_function(check)


P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Interval(Rule):
    """Finite numbers from ``low`` to ``high``; ``above`` leaves out low itself, ``below`` leaves out high.

    On ``Annotated[int, ...]`` whole numbers. unit: what the number counts or measures, for the sentence.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    unit: str = ""

    def _words(self, kind: Any) -> str:
        low = None if math.isinf(self.low) else f"above {_plain(self.low)}" if self.above else _plain(self.low)
        high = None if math.isinf(self.high) else f"below {_plain(self.high)}" if self.below else _plain(self.high)
        if low is None or high is None:
            span = "" if high is None else f" {high}" if self.below else f" of at most {high}"
            span = span if low is None else f" {low}" if self.above else f" of at least {low}"
        else:
            span = f" {low} and {high if self.below else f'at most {high}'}" if self.above else f" from {low} to {high}"
        noun = "a whole number" if kind is int else "a number" if span else "a finite number"
        return f"{noun}{span}{f' ({self.unit})' if self.unit else ''}"

    def _take(self, value: Any, kind: Any) -> Any:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError
        number: Any = kind(value) if kind in (int, float) else float(value)
        low = number > self.low if self.above else number >= self.low
        high = number < self.high if self.below else number <= self.high
        if not low or not high or (number != value if kind is int else not math.isfinite(number)):
            raise ValueError
        return number if kind in (int, float) else value


@dataclass(frozen=True)
class Pair(Rule):
    """A number, which stands for both, or a pair [low, high] with low <= high, all in the interval."""

    within: Interval

    def _words(self, kind: Any) -> str:
        return f"{self.within.words()}, or two of them as [low, high]"

    def _take(self, value: Any, kind: Any) -> tuple[float, float]:
        low, high = (self.within.check(v) for v in (value if isinstance(value, (list, tuple)) else (value, value)))
        if low > high:
            raise ValueError
        return low, high


@dataclass(frozen=True)
class YesNo(Rule):
    """true or false, and nothing that could be taken for it."""

    def _words(self, kind: Any) -> str:
        return "true or false"

    def _take(self, value: Any, kind: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value


@dataclass(frozen=True)
class Text(Rule):
    """Text of 1 to ``longest`` characters on one line. what: what it names, for the sentence."""

    what: str = "text"
    longest: int = 200

    def _words(self, kind: Any) -> str:
        return f"{self.what} (1 to {self.longest} characters on one line)"

    def _take(self, value: Any, kind: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > self.longest or len(value.splitlines()) > 1:
            raise ValueError
        return value


@dataclass(frozen=True)
class Listed(Rule):
    """A list of ``least`` to ``most`` entries, each of the declared type.

    unique: no entry stands twice. one: a single number stands for a list that repeats it ``least`` times.
    """

    entries: ClassVar[bool] = True
    least: int = 1
    most: int = 16
    unique: bool = False
    one: bool = False

    def _words(self, kind: Any) -> str:
        number = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        what = describe(typing.get_args(kind)[0])
        return f"a list of {number} values, each {what}{', no two alike' * self.unique}{', or one for all' * self.one}"

    def _take(self, value: Any, kind: Any) -> Any:
        if self.one and isinstance(value, Real) and not isinstance(value, bool):
            return [value] * self.least
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise TypeError
        twice = self.unique and any(a == b for k, a in enumerate(value) for b in value[:k])
        if not self.least <= len(value) <= self.most or twice:
            raise ValueError
        return value


@dataclass(frozen=True)
class Keyed(Rule):
    """A mapping of 1 to ``most`` names. example: what one looks like, for the sentence."""

    entries: ClassVar[bool] = True
    example: str
    most: int = 16

    def _words(self, kind: Any) -> str:
        return f"a mapping such as {self.example}"

    def _take(self, value: Any, kind: Any) -> Any:
        if not isinstance(value, Mapping) or not 1 <= len(value) <= self.most:
            raise ValueError
        return value


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


def nearest(word: Any, known: Iterable[Any], within: str = "") -> str:
    """The part of a sentence that helps after an unknown name; ``within`` is written before the one that was meant.

    >>> nearest("mocco", ["simclr", "moco"]), nearest("xyz", ["simclr", "moco"])
    ("did you mean 'moco'?", 'known: moco, simclr')
    """
    names = sorted({str(name) for name in known})
    close = near(word, names)
    if close is not None:
        return f"did you mean '{within}{close}'?"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"known: {', '.join(names[:20]) or 'none'}{more}"


def near(word: Any, known: Iterable[str]) -> str | None:
    """The known name that looks most like a word, capitals aside; None where none is like it."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(_text(word).lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def _text(word: Any) -> str:
    return word[:200] if isinstance(word, str) else short(word)


def short(value: Any) -> str:
    """A value as Python writes it, on one line and of at most 100 characters."""
    try:
        text = _REPR.repr(value)
    except Exception:  # an int of more digits than Python prints, or a class with a broken repr
        text = "a number of thousands of digits" if isinstance(value, int) else f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:97]}..."


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
            raise error(f"{where}.{key} is no argument of '{name}'; {nearest(key, known, f'{where}.')}")
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


def is_ranged(annotation: Any) -> bool:
    """Whether a type says which of its values are allowed: every part is a rule, a choice, true or false, or None."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        rules = [mark for mark in inner[1:] if isinstance(mark, Rule)]
        return bool(rules) and (not isinstance(rules[0], Listed) or is_ranged(typing.get_args(inner[0])[0]))
    if origin in (typing.Union, types.UnionType):
        return all(is_ranged(one) for one in inner)
    return origin is Literal or annotation is type(None)


@cache
def _declared(what: Any) -> Mapping[str, Any]:
    called = inspect.getattr_static(what, "__init__") if isinstance(what, type) else what
    hints = typing.get_type_hints(what if is_dataclass(what) else called, include_extras=True)
    if is_dataclass(what):
        return {field.name: hints[field.name] for field in fields(what) if field.init}
    return {p.name: hints[p.name] for p in inspect.signature(called).parameters.values() if p.kind is p.KEYWORD_ONLY}


def describe(annotation: Any) -> str:
    """What a declared type allows, in words.

    >>> describe(Share), describe(Literal["kl", "moments"] | None)
    ('a number from 0 to below 1', "'kl' or 'moments', or null")
    """
    if annotation is None or annotation is type(None):
        return "null"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return next((mark.words(inner[0]) for mark in inner[1:] if hasattr(mark, "words")), describe(inner[0]))
    if origin is Literal:
        return _either([repr(value) for value in inner])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(describe(one) for one in inner)
    return str(getattr(annotation, "__name__", annotation))


def fault(problem: ValidationError, content: Any) -> tuple[list[str], Any, str]:
    """Where plain values break a rule first (the path as it was written), the value there, and the rule."""
    errors = problem.errors()
    where = written(errors[0]["loc"], content)
    here = [error for error in errors if written(error["loc"], content) == where]
    rules = list(dict.fromkeys(_rule(error) for error in here))
    if len(rules) > 1:  # alternatives: what is wrong with one of them may be right for another
        mistaken = _mistaken(errors[0].get("input"))
        rules = [rule.removesuffix(mistaken) for rule in rules]
        rules = [rules[0], *(rule.removeprefix("it must be ") for rule in rules[1:])]
    return where, errors[0].get("input"), ", or ".join(rules)


def written(path: Sequence[str | int], content: Any) -> list[str]:
    """The part of a path that the user wrote; pydantic adds the names of alternatives ("int", "str")."""
    parts: list[str] = []
    for part in path:
        listed = isinstance(content, list | tuple) and isinstance(part, int) and part < len(content)
        if not listed and not (isinstance(content, Mapping) and part in content):
            break
        content = content[part]
        parts.append(str(part))
    return parts


def _rule(error: Mapping[str, Any]) -> str:
    """What a value must be, from an error of pydantic."""
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"])
        close = near(error["input"], expected.replace(" or ", ", ").replace("'", "").split(", "))
        return f"it must be {expected}{f'; did you mean {close!r}?' if close else ''}"
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be", "it must be", 1).replace(" should have ", " must have ", 1)
    return text[0].lower() + text[1:]


def _mistaken(value: Any) -> str:
    """What a number is often mixed up with."""
    return ", not true or false" if isinstance(value, bool) else ", not text" if _is_number(value) else ""


def _is_number(text: Any) -> bool:
    try:
        return isinstance(text, str) and float(text) == float(text)
    except ValueError:
        return False


def _plain(number: float) -> str:
    return str(int(number)) if isinstance(number, int) or number.is_integer() and abs(number) < 1e16 else f"{number:g}"


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlevel, _REPR.maxlong = 3, 40
