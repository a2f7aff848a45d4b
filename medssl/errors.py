"""The few exception classes. What a user wrote wrongly is a ValueError with one clear sentence; its numbers."""

from __future__ import annotations

import re

_LONG = re.compile(r"(\S{200})\S{101,}(\S{100})")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(ValueError):
    """Something the user wrote or supplied breaks a rule; the message names it, the rule and the remedy."""


class ManifestError(UserError):
    """A manifest cannot be read or breaks a rule; the message names the file and the row."""


class VolumeError(UserError):
    """A scan cannot be used; the message names the file."""


class RecipeError(UserError):
    """A recipe or an override has an unknown key, a wrong type or an impossible combination."""


class StaleError(UserError):
    """An artefact was made from other parents (recipe, manifest, encoder) than the ones at hand."""


class BusyError(UserError):
    """Another process is writing what this one wants to write."""


class TrainingStopped(RuntimeError):
    """Training ended early; the message names the step and the likely cause."""


class StoppedByHand(TrainingStopped):
    """Ctrl-C in a training, with the sentence that says how to go on."""


class ScanWarning(UserWarning):
    """Something about scans that must be known and stops nothing: they look unlike the training's, or were skipped."""


def shown(text: object) -> str:
    r"""Text for a terminal, whatever stands in it: what would move the cursor or turn the line is spelled out.

    Control characters, marks of direction, other line ends, and the bytes of a file name that are no text. A word of
    more than 400 characters loses its middle.

    >>> print(shown("a\x1b[31m\nb\udcff"), shown("\u202egnp"), shown("sub-01"))
    a\x1b[31m\nb\xff \u202egnp sub-01
    """
    return _LONG.sub(r"\1...\2", visible(text))


def visible(text: object) -> str:
    """``shown`` without shortening anything, for a path that is to be used."""
    return _UNSEEN.sub(_spelled, str(text))


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is no text
        return f"\\x{code - 0xDC00:02x}"
    return ascii(found[0])[1:-1]


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "scan"), count(340, "scan")
    ('1 scan', '340 scans')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}".replace(",", " ")
