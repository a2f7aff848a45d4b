"""Commands on a run as they are typed in the folder where a page was made: never with an absolute path."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from medssl.report.paths import home_of


def below(run: Path) -> str | None:
    """Path of a run relative to the working folder; None where it does not lie below it or would show a user's name."""
    for path, here in ((os.path.abspath(run), os.getcwd()), (os.path.realpath(run), os.path.realpath(os.getcwd()))):
        start = here.rstrip("/\\") + os.sep
        if path.startswith(start) and not _shows_a_user(path, start):
            return Path(path[len(start) :]).as_posix()
    return None


def _shows_a_user(path: str, start: str) -> bool:
    """Whether the part of a path behind its start holds the name of a user: of a home folder, or one's own."""
    try:
        own = Path.home().name
    except RuntimeError:  # there is no home folder
        own = ""
    return len(home_of(path)) >= len(start) or own in Path(path[len(start) :]).parts


def command(run: Path, name: str, verb: str) -> str:
    """A command on a run. name: of its folder, for a run that does not lie below the working folder.

    verb: such as "score" or "pretrain --resume".
    """
    return f"medssl {verb} {shlex.quote(below(run) or name)}"


def from_where(run: Path) -> str:
    """In which folder the commands are typed, in a sentence."""
    if below(run) is not None:
        return "Commands are to be typed in the folder in which this page was made."
    return "Commands are to be typed in the folder that holds the run."
