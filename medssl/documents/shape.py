"""Whether plain values have the form that their reader needs; where not, one sentence names the place and the rule."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, Union

from medssl.errors import UserError

DEEPEST = 64
"""Levels of lists and objects inside each other that a document may have."""

T = TypeVar("T")
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def checked(content: Any, shape: type[T], where: str, remedy: str, error: type[UserError] = UserError) -> T:
    """``content`` itself, of which every part that ``shape`` names has been looked at.

    shape: a TypedDict (its required keys must be there, further keys are kept and not looked at), ``dict[str, X]``,
    ``list[X]``, ``X | None``, ``Literal[...]``, str, int, float (whole or not), bool or Any.
    where: the file, which starts the sentence. remedy: ends it. Errors: ``error`` that names the first wrong key, as
    in ``run.json: hashes.manifest is a list, but text is needed; train again``.
    """
    problem = next(_problems(content, shape, ""), None)
    if problem is not None:
        place, rule = problem
        raise error(f"{where}{f': {place}' if place else ''} {rule}; {remedy}")
    return typing.cast(T, content)


def described(value: Any) -> str:
    """A plain value in a few words.

    >>> described([1, 2]), described("abc"), described(None)
    ('a list', "the text 'abc'", 'null')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"{value!r:.40}"


def unfit(content: Any) -> str | None:
    """Why plain values are no sound document: levels beyond :data:`DEEPEST`, or text that no file can hold; or None."""
    waiting: list[tuple[Any, int]] = [(content, 1)]
    while waiting:
        value, level = waiting.pop()
        if isinstance(value, str):
            if "\0" in value or _LONE_SURROGATE.search(value):
                return "holds text with a NUL or half a character"
        elif isinstance(value, dict | list):
            if level > DEEPEST:
                return f"has more than {DEEPEST} levels of lists and objects"
            waiting.extend((part, level + 1) for part in value)
            if isinstance(value, dict):
                waiting.extend((part, level + 1) for part in value.values())
    return None


def _problems(value: Any, shape: Any, place: str) -> Iterator[tuple[str, str]]:
    """Place and rule of everything that does not fit, in order."""
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if shape is Any:
        return
    if origin in (Union, types.UnionType):
        yield from _problems_of_union(value, arguments, place)
    elif origin is Literal:
        if not any(value == each and type(value) is type(each) for each in arguments):
            yield place, f"is {described(value)}, but must be one of {', '.join(map(str, arguments))}"
    elif typing.is_typeddict(shape) or origin is dict or shape is dict:
        yield from _problems_of_object(value, shape, arguments, place)
    elif origin is list or shape is list:
        if not isinstance(value, list):
            yield place, f"is {described(value)}, but a list is needed"
        else:
            for i, each in enumerate(value):
                yield from _problems(each, arguments[0] if arguments else Any, f"{place}[{i}]")
    elif not _is_kind(value, shape):
        yield place, f"is {described(value)}, but {_KINDS[shape]} is needed"


def _problems_of_object(value: Any, shape: Any, arguments: tuple[Any, ...], place: str) -> Iterator[tuple[str, str]]:
    """Of an object with named keys (TypedDict), or with any keys and values of one shape."""
    if not isinstance(value, dict):
        yield place, f"is {described(value)}, but an object with keys is needed"
        return
    inside = f"{place}." if place else ""
    if not typing.is_typeddict(shape):
        for key, each in value.items():
            yield from _problems(each, arguments[1] if arguments else Any, f"{inside}{key:.60}")
        return
    for key, inner in typing.get_type_hints(shape).items():
        if key in value:
            yield from _problems(value[key], inner, f"{inside}{key}")
        elif key in shape.__required_keys__:
            yield place, f"lacks the key '{key}'"


def _problems_of_union(value: Any, choices: tuple[Any, ...], place: str) -> Iterator[tuple[str, str]]:
    """Of the choice that comes nearest: one of the value's own kind, where there is one."""
    per_choice = {choice: list(_problems(value, choice, place)) for choice in choices}
    if all(per_choice.values()):
        own_kind = [problems for choice, problems in per_choice.items() if isinstance(value, _python_kind(choice))]
        words = " or ".join(_words(choice) for choice in choices)
        yield from own_kind[0] if own_kind else [(place, f"is {described(value)}, but {words} is needed")]


def _python_kind(shape: Any) -> type:
    """The class of plain values that a shape describes."""
    if typing.is_typeddict(shape):
        return dict
    kind = typing.get_origin(shape) or shape
    return kind if kind in (dict, list) else type(None)


def _words(shape: Any) -> str:
    if shape in _KINDS:
        return _KINDS[shape]
    return "a list" if (typing.get_origin(shape) or shape) is list else "an object with keys"


def _is_kind(value: Any, kind: Any) -> bool:
    """Whether a value is of a simple kind; true and false are no numbers, and a whole number is one."""
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)
