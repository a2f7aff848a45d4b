"""Names that stand in documents and become names of files: one file in the folder that is meant, and no other place."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from medssl.errors import UserError

_NAME_BYTES = 120
"""Longest name that is formed of a name in a file; systems take 255 bytes, and suffixes are added."""
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]')
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE)


def inside(folder: Path, name: str, what: str = "the name") -> Path:
    """``folder / name`` for a name that came from a file; UserError where it would be another place.

    >>> inside(Path("out"), "resnet18").as_posix()
    'out/resnet18'
    """
    return folder / safe_name(name, what)


def safe_name(name: str, what: str = "the name") -> str:
    """``name`` where every system takes it for the name of one file in its folder.

    what: starts the sentence, such as ``preset.yaml: the encoder``. Errors: UserError for a name that is empty, a
    path, hidden, a device, too long, or holds characters that not every system takes.
    """
    reason = ""
    if not name.strip():
        reason = "is empty"
    elif _NOT_IN_NAMES.search(name):
        reason = "holds a character that file names cannot hold"
    elif name[0] in ".~- " or name[-1] in ". ":
        reason = "begins with a dot, a tilde, a dash or a blank, or ends with a dot or a blank"
    elif _DEVICES.fullmatch(name):
        reason = "is the name of a device"
    elif len(name.encode("utf-8")) > _NAME_BYTES:
        reason = f"is longer than {_NAME_BYTES} bytes"
    if reason:
        raise UserError(
            f"{what} {name[:60]!r} {reason}, so no file can be named after it; use letters, digits, - and _"
        )
    return name


def refuse_same(names: Iterable[str], what: str, form: Callable[[str], str] = str) -> None:
    """UserError where two names would be one file on a system that does not tell capitals, or forms of accents, apart.

    what: starts the sentence, as in ``safe_name``. form: the name of the file that is formed of a name.
    """
    seen: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", form(name)).casefold())
        if plain in seen:
            raise UserError(f"{what} {name!r} would have the same file name as {seen[plain]!r}; rename one of them")
        seen[plain] = name


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; False also for text that can be no path (too long, with a NUL)."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
