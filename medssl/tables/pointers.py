"""Files that are named but not here: dangling links of git-annex and datalad, and pointers of git-annex and LFS."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = re.compile(rb"/?(\.git/)?annex/objects/\S+")
_LONGEST = 32 << 10
"""Bytes that a pointer has at most; larger files are content."""


def stands_in(path: str | os.PathLike[str]) -> str:
    """Why a path holds no content, with the command that fetches it; "" where it holds content or nothing is known.

    A dangling link (of git-annex or another), an unlocked git-annex pointer or a git-lfs pointer: the sentence goes on
    from the file's name, such as "is a git-annex link whose content is not here; fetch it with `datalad get PATH`".
    """
    path = Path(path)
    if os.path.islink(path) and not os.path.exists(path):
        target = os.readlink(path)
        if "annex/objects/" in target.replace("\\", "/"):
            return f"is a git-annex link whose content is not here; fetch it with `datalad get {path}`"
        return f"is a link to {target}, which does not exist; correct the link or fetch what it points to"
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return ""
        with open(path, "rb") as file:
            start = file.read(512)
    except (OSError, ValueError):
        return ""
    if start.startswith(_LFS):
        return f"is a git-lfs pointer whose content is not here; fetch it with `git lfs pull --include {path.name}`"
    if _ANNEX.match(start.split(b"\n", 1)[0].strip()):
        return f"is an unlocked git-annex pointer whose content is not here; fetch it with `datalad get {path}`"
    return ""
