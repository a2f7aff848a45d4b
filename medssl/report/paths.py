"""Paths in a page that is passed on: only names of files outside the appendix, and nowhere the name of a user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_HOMES = (
    re.compile(r"(?<![\w.~])/(?:home|Users)/[^/\s\"'<>|:;,]+"),
    re.compile(r"(?<![\w.~/])/root(?![\w.-])"),
    re.compile(r"\b[A-Za-z]:[\\/]Users[\\/][^\\/\n\"'<>|:;,]+(?=[\\/])"),
)
_PART = r"[^\s/\\\"'`<>|:;,]+"
_PATHS = (
    re.compile(rf"(?<![\w.~/<:])(?:file://)?(?:[A-Za-z]:|~|/{_PART})(?:/{_PART})+/?"),
    re.compile(rf"(?:\b[A-Za-z]:|~|\\)(?:\\{_PART})+\\?"),
)


def with_home(text: str) -> str:
    """Home folders as "~", wherever they stand in a text.

    >>> with_home("medssl pretrain /home/anna/study/recipe.yaml -o C:\\\\Users\\\\Anna B\\\\runs")
    'medssl pretrain ~/study/recipe.yaml -o ~\\\\runs'
    """
    for pattern in _HOMES:
        text = pattern.sub("~", text)
    return text


def home_of(path: str) -> str:
    """The home folder that an absolute path begins with; "" where it lies in none.

    >>> home_of("/home/anna/study/runs"), home_of("/data/runs")
    ('/home/anna', '')
    """
    return next((found[0] for pattern in _HOMES if (found := pattern.match(path))), "")


def names_only(text: str, known: Iterable[str] = ()) -> str:
    """Absolute paths in a text as the name of the file or folder alone; relative paths stay.

    known: paths that may hold spaces and are therefore replaced first, as they are; folders end in a separator.

    >>> names_only("scans/a.nii.gz is not in /home/anna/study/scans (see /data/lab/notes.txt).")
    'scans/a.nii.gz is not in scans (see notes.txt).'
    >>> names_only("read from /mnt/my data/m.csv", ["/mnt/my data/m.csv"])
    'read from m.csv'
    """
    for path in sorted(known, key=len, reverse=True):
        text = text.replace(path, "" if path.endswith(("/", "\\")) else name_of(path))
    text = with_home(text)
    for pattern in _PATHS:
        text = pattern.sub(lambda match: _last(match[0]), text)
    return text


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def name_of(path: str) -> str:
    """Last part of a path of any system.

    >>> name_of("/data/my study/manifest.csv"), name_of("C:\\\\data\\\\m.csv"), name_of("m.csv")
    ('manifest.csv', 'm.csv', 'm.csv')
    """
    return (PureWindowsPath(path) if re.match(r"[A-Za-z]:\\", path) else PurePosixPath(path)).name or path


def absolute_paths(*contents: Any) -> tuple[str, ...]:
    """Every text in nested JSON that is an absolute path, and the folder that holds it, with its separator."""
    found = {text for content in contents for text in _texts(content) if _is_absolute(text)}
    folders = {f"{parent}{'/' if text.startswith('/') else chr(92)}" for text in found if (parent := _parent(text))}
    return tuple(sorted(found | folders))


def _parent(path: str) -> str:
    """The folder of a path; "" where it is the root or just below it, which would match too much."""
    pure = PurePosixPath(path) if path.startswith("/") else PureWindowsPath(path)
    return str(pure.parent) if len(pure.parts) > 3 else ""


def _is_absolute(text: str) -> bool:
    return "\n" not in text and re.match(r"(/[^/]+/.|[A-Za-z]:\\[^\\]+\\.)", text) is not None


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for inner in content.values():
            yield from _texts(inner)
    elif isinstance(content, list):
        for inner in content:
            yield from _texts(inner)
