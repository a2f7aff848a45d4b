"""Image cells that name a part of a file: ``FILE#part`` or ``FILE#part@ROW``, with the mask that a part may need.

A part is one of the blocks of OpenBHB (``train.npy#vbm@12``: row 12, counted from 0, of a wide array;
``sub-1_T1w.npy#xhemi``: a file of one scan) or ``table`` (``features.csv#table@12``: the numbers of a row of a
table, counted from 0 below the header). A ``#`` that is followed by none of these names belongs to the file name.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.data.volumes.image_files import PAIRS, other_of_pair
from medssl.errors import VolumeError
from medssl.tables.pointers import stands_in

MASKED = ("vbm", "quasiraw")
"""Parts that stand in wide arrays as the voxels of a mask."""
PARTS = (*MASKED, "xhemi", "vbm_roi", "desikan_roi", "destrieux_roi", "table")
_FORM = re.compile(rf"(?P<file>.+)#(?P<part>{'|'.join(sorted(PARTS, key=len, reverse=True))})(@(?P<row>\d+))?", re.S)
_MASK = "|mask="
_PAIR = (*PAIRS, *PAIRS.values())
_ABSENT = (OSError, RuntimeError, ValueError)
"""What the system says of a file that is not there: also a circle of links, or a name that cannot be."""


@dataclass(frozen=True)
class Reference:
    """What an image cell names. part "": the whole file. row: None for a file of one scan. mask: for ``MASKED``."""

    file: Path
    part: str = ""
    row: int | None = None
    mask: Path | None = None

    def __str__(self) -> str:
        """As a manifest writes it; the mask has a column of its own there."""
        tail = f"#{self.part}" if self.part else ""
        return f"{self.file}{tail}{'' if self.row is None else f'@{self.row}'}"

    @property
    def path(self) -> Path:
        """The reference with its mask as one path, as caches and readers pass it on; ``parse`` reads it back."""
        return Path(str(self) if self.mask is None else f"{self}{_MASK}{self.mask}")

    @property
    def name(self) -> str:
        """Name without folders, for messages: "train.npy#vbm@12"."""
        return str(replace(self, file=Path(self.file.name)))

    @property
    def needs_mask(self) -> bool:
        """Whether the part can only be read with a mask."""
        return self.part in MASKED and self.row is not None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files behind it: the data, then the mask."""
        return (self.file,) if self.mask is None else (self.file, self.mask)

    def absent(self) -> Path | None:
        """The first of its files that does not exist, None where all do."""
        return next((file for file in self.files if not os.path.exists(file)), None)


class Stamps(dict[str, str]):
    """File -> "path without links, size, time of change [ns]" with tabs between; the system is asked once for each.

    A look-up of a file that is absent raises OSError, RuntimeError or ValueError. ``states``: inode and time of the
    last change of contents or of anything about the file [ns], which no program can set, of the files looked up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def __missing__(self, file: str) -> str:
        state = os.lstat(file)
        cut = file.rfind(os.sep) + 1
        folder, name = file[:cut], file[cut:]
        if stat.S_ISLNK(state.st_mode) or name in ("", ".", ".."):
            real = os.path.realpath(file, strict=True)
            state = os.stat(real)
        else:
            if folder not in self._folders:
                self._folders[folder] = os.path.join(os.path.realpath(folder, strict=True), "")
            real = self._folders[folder] + name
        self.states[file] = f"{state.st_ino:x}.{state.st_ctime_ns:x}"
        said = self[file] = f"{real}\t{state.st_size}\t{state.st_mtime_ns}"
        return said

    def has(self, file: str) -> bool:
        """Whether a file exists."""
        try:
            return bool(self[file])
        except _ABSENT:
            return False


def stamp(cell: str | os.PathLike[str], stamps: Stamps) -> str:
    """The stamps of the files that a cell names, and the part; VolumeError where one is absent.

    Of a detached pair both files count, whichever is named: another header is another scan.
    """
    reference = _named(cell)[1]
    said = []
    for file in files_of(cell):
        if not stamps.has(file):
            raise VolumeError(f"{file} {why_absent(file)}")
        said.append(stamps[file])
    if reference is not None and reference.part:
        said.append(f"{reference.part}\t{reference.row}")
    return "\n".join(said)


def files_of(cell: str | os.PathLike[str]) -> list[str]:
    """The files behind a cell: the data, its mask, and the other one of a detached pair."""
    files, _ = _named(cell)
    if files[0].lower().endswith(_PAIR) and (other := other_of_pair(Path(files[0]))) is not None:
        files = [*files, str(other)]
    return files


def state_of(cell: str | os.PathLike[str], stamps: Stamps) -> str:
    """What changes whenever a file behind a cell is written, replaced, renamed or restored; "" where one is absent."""
    files = files_of(cell)
    return " ".join(stamps.states[file] for file in files) if all(stamps.has(file) for file in files) else ""


def why_absent(file: str | os.PathLike[str]) -> str:
    """What is wrong with a file that cannot be found, as a sentence goes on from its name, with the remedy."""
    return stands_in(file) or "does not exist; correct the path in the manifest or drop the row"


def summary(cell: str | os.PathLike[str], times: bool, stamps: Stamps) -> str:
    """Names and sizes (-1 where absent) of the files, with ``times`` also when they were changed, and the part."""
    files, reference = _named(cell)
    said = []
    for file in files:
        size, changed = stamps[file].rsplit("\t", 2)[1:] if stamps.has(file) else ("-1", "-1")
        said.append(f"{os.path.basename(file)} {size} {changed if times else 0}")
    tail = f" #{reference.part}@{reference.row}" if reference is not None and reference.part else ""
    return "\n".join(said) + tail


def _named(cell: str | os.PathLike[str]) -> tuple[list[str], Reference | None]:
    """The files that a cell names, and how, None for a plain path."""
    text = os.fspath(cell)
    if "#" not in text:
        return [text], None
    reference = parse(text)
    return [str(file) for file in reference.files], reference


def parse(cell: str | os.PathLike[str]) -> Reference:
    """The reference that a cell, or a path made from one, stands for.

    >>> parse("data/train.npy#vbm@12")
    Reference(file=PosixPath('data/train.npy'), part='vbm', row=12, mask=None)
    >>> parse("scan#1.nii.gz").part
    ''
    """
    if "#" not in os.fspath(cell):
        return Reference(cell if isinstance(cell, Path) else Path(cell))
    text, _, mask = os.fspath(cell).partition(_MASK)
    found = _FORM.fullmatch(text)
    if found is None:
        return Reference(Path(cell))
    row = found["row"]
    number = None if row is None else int(row)
    return Reference(Path(found["file"]), found["part"], number, Path(mask) if mask else None)
