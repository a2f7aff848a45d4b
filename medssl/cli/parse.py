"""What options and messages need beyond typer: values that are pairs or triples, notes about scans."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from medssl.errors import ScanWarning, shown, visible


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """NAME=VALUE options as a dictionary."""
    found = {}
    for text in texts or []:
        name, _, value = text.partition("=")
        if not name or not value:
            raise typer.BadParameter(f"'{text}' must look like NAME=VALUE", param_hint=option)
        found[name.strip()] = value.strip()
    wrong = sorted(set(found.values()) - {"M", "F"}) if option == "--sex" else []
    if wrong:
        raise typer.BadParameter(f"a code of sex means M or F, not '{wrong[0]}'", param_hint=option)
    return found


def pair_list(texts: list[str] | None, option: str) -> list[tuple[str, str]]:
    """NAME=VALUE options in their order, where a name may come several times."""
    return [next(iter(pairs([text], option).items())) for text in texts or []]


def three(text: str | None, kind: type, option: str) -> Any:
    """Three numbers from "2" or "1,1,2"."""
    if text is None:
        return None
    try:
        values = [kind(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or min(values) <= 0:
        raise typer.BadParameter(
            f"'{text}' must be one or three positive numbers, such as 4 or 40,48,40", param_hint=option
        )
    return tuple(values * 3 if len(values) == 1 else values)


def free_to_write(path: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse to replace a manifest (perhaps mended by hand) that nobody said may go, and anything else in any case."""
    if path.is_file() and not overwrite:
        raise typer.BadParameter(f"{path} exists; name another file, or add --overwrite", param_hint="-o")
    import re

    from medssl.files import Output, refuse_foreign

    head = re.compile(rb"[^\r\n]*(participant_id|image)", re.IGNORECASE)
    refuse_foreign(path, Output("a manifest", {".csv": head, ".tsv": head}), inputs)


def names_of(text: str | None) -> list[str] | None:
    """The names of "A, B,C"; None where none are given.

    >>> names_of("Leiden, Oxford,"), names_of(None)
    (['Leiden', 'Oxford'], None)
    """
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def say(text: object, err: bool = False) -> None:
    """Print one line. Names, cells and paths in it may be anybody's: what would move the cursor or turn the line is
    spelled out. Commands print through this, ``say_text`` and ``say_note`` alone.
    """
    typer.echo(visible(text), err=err)


def say_text(text: str, nl: bool = True) -> None:
    """Print a text of several lines, such as a table, each as ``say`` does."""
    typer.echo("\n".join(visible(line) for line in text.split("\n")), nl=nl)


def say_note(note: object, err: bool = False) -> None:
    """Print a note as one line."""
    typer.echo(f"note: {shown(' '.join(str(note).split()))}", err=err)


@contextmanager
def notes_aloud() -> Iterator[None]:
    """Warnings about scans become plain notes on stderr, every time."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
            if issubclass(category, ScanWarning):
                say_note(message, err=True)
            else:
                plain(message, category, *where, **more)

        warnings.simplefilter("always", ScanWarning)
        warnings.showwarning = show
        yield
