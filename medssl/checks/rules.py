"""What a value must be: the rules that stand in ``Annotated[kind, rule]``."""

from __future__ import annotations

import math
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal


class Rule(ABC):
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
            raise ValueError(f"it must be {self._words(kind)}{mistaken(value)}") from None

    @abstractmethod
    def _words(self, kind: Any) -> str:
        """What is allowed of this kind."""

    @abstractmethod
    def _take(self, value: Any, kind: Any) -> Any:
        """The value as this kind; any of the errors that ``check`` catches where it breaks the rule."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Read by pydantic."""
        from pydantic_core import core_schema

        check = partial(self.check, kind=source)
        if self.entries:
            return core_schema.no_info_before_validator_function(check, handler(source))
        return core_schema.no_info_plain_validator_function(check)


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


def describe(annotation: Any) -> str:
    """What a declared type allows, in words.

    >>> describe(Annotated[int, Interval(1, 64)]), describe(Literal["kl", "moments"] | None)
    ('a whole number from 1 to 64', "'kl' or 'moments', or null")
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


def is_ranged(annotation: Any) -> bool:
    """Whether a type says which of its values are allowed: every part is a rule, a choice, true or false, or None."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        rules = [mark for mark in inner[1:] if isinstance(mark, Rule)]
        return bool(rules) and (not isinstance(rules[0], Listed) or is_ranged(typing.get_args(inner[0])[0]))
    if origin in (typing.Union, types.UnionType):
        return all(is_ranged(one) for one in inner)
    return origin is Literal or annotation is type(None)


def mistaken(value: Any) -> str:
    """What a number is often mixed up with."""
    return ", not true or false" if isinstance(value, bool) else ", not text" if _is_number(value) else ""


def _is_number(text: Any) -> bool:
    try:
        return isinstance(text, str) and float(text) == float(text)
    except ValueError:
        return False


def _plain(number: float) -> str:
    return (
        str(int(number)) if isinstance(number, int) or (number.is_integer() and abs(number) < 1e16) else f"{number:g}"
    )


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
