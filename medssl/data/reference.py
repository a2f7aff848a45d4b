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

from medssl.errors import VolumeError

MASKED = ("vbm", "quasiraw")
"""Parts that stand in wide arrays as the voxels of a mask."""
PARTS = (*MASKED, "xhemi", "vbm_roi", "desikan_roi", "destrieux_roi", "table")
_FORM = re.compile(rf"(?P<file>.+)#(?P<part>{'|'.join(sorted(PARTS, key=len, reverse=True))})(@(?P<row>\d+))?", re.S)
_MASK = "|mask="


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

    def stamp(self, folders: dict[str, str] | None = None) -> str:
        """Resolved path, size and time of change [ns] of its files, and the part; VolumeError where one is absent.

        folders: resolved folders by their names, filled here: a cohort of many files asks for each folder once.
        """
        said = []
        for file in self.files:
            try:
                real, state = _resolved(str(file), {} if folders is None else folders)
            except (OSError, RuntimeError) as error:
                raise VolumeError(f"{file} does not exist; correct the path in the manifest or drop the row") from error
            said.append(f"{real}\t{state.st_size}\t{state.st_mtime_ns}")
        if self.part:
            said.append(f"{self.part}\t{self.row}")
        return "\n".join(said)

    def summary(self, times: bool) -> str:
        """Names and sizes (-1 where absent) of its files, with ``times`` also when they were changed, and the part."""
        said = []
        for file in self.files:
            try:
                state = os.stat(file)
                size, changed = state.st_size, state.st_mtime_ns
            except (OSError, ValueError):
                size, changed = -1, -1
            said.append(f"{file.name} {size} {changed if times else 0}")
        tail = f" #{self.part}@{self.row}" if self.part else ""
        return "\n".join(said) + tail


def _resolved(file: str, folders: dict[str, str]) -> tuple[str, os.stat_result]:
    """The path of a file without links, and its state. Errors: OSError where it is absent."""
    state = os.lstat(file)
    folder, name = os.path.split(file)
    if stat.S_ISLNK(state.st_mode) or name in ("", ".", ".."):
        real = os.path.realpath(file, strict=True)
        return real, os.stat(real)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder, strict=True)
    return os.path.join(folders[folder], name), state


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
