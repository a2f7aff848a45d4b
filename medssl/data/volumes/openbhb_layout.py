"""The blocks of an OpenBHB array: where each modality stands in a row, its shape, its grid and its mask."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.data.volumes.formats import stored_nifti
from medssl.errors import VolumeError


@dataclass(frozen=True)
class Block:
    """One modality. shape: (C, D, H, W). spacing, origin: of its grid in mm, None where it has no grid.

    mask_file: name of its mask; mask_above: voxels above this value belong to it; mask_voxels: how many there are;
    mask_blob: git blob id of the published file, "" where it is not known.

    **Orientation.** Volumes stay in the order in which they are stored (the first axis runs to the left): nothing
    is permuted or flipped, neither when a row is read here nor by a submission on the challenge's server.
    """

    name: str
    shape: tuple[int, int, int, int]
    spacing: float | None = None
    mask_file: str = ""
    mask_above: float = 0.0
    mask_voxels: int = 0
    mask_blob: str = ""

    @property
    def size(self) -> int:
        """Values in a row of a wide array."""
        return self.mask_voxels or math.prod(self.shape)

    @property
    def mask_variable(self) -> str:
        """The environment variable in which the challenge's server names the mask, "" where values stand whole."""
        return f"{self.name.upper()}_MASK" if self.mask_voxels else ""

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel -> mm of MNI space as stored: the first axis runs to the left (columns of the SPM template)."""
        if self.spacing is None:
            return np.eye(4)
        affine = np.diag([-self.spacing, self.spacing, self.spacing, 1.0])
        affine[:3, 3] = (90.0, -126.0, -72.0)
        return affine


@dataclass(frozen=True)
class BlockTable:
    """The blocks of a row, in order."""

    blocks: tuple[Block, ...]

    @property
    def width(self) -> int:
        """Values of a row."""
        return sum(block.size for block in self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Modalities, in order."""
        return tuple(block.name for block in self.blocks)

    def block(self, name: str) -> Block:
        """The block of a modality; VolumeError for an unknown one."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise VolumeError(f"there is no modality '{name}' in these rows; known are {', '.join(self.names)}")

    def span(self, name: str) -> slice:
        """Where the block stands in a row."""
        wanted = self.block(name)
        start = sum(block.size for block in self.blocks[: self.blocks.index(wanted)])
        return slice(start, start + wanted.size)


OPENBHB = BlockTable(
    (
        Block(
            "vbm",
            (1, 121, 145, 121),
            1.5,
            "cat12vbm_space-MNI152_desc-gm_TPM.nii.gz",
            0.05,
            519_945,
            "a0a151e8e891e3da6f4199f32700e9314fd9e338",
        ),
        Block("quasiraw", (1, 182, 218, 182), 1.0, "quasiraw_space-MNI152_desc-brain_T1w.nii.gz", 0.0, 1_827_095),
        Block("xhemi", (8, 163_842, 1, 1)),
        Block("vbm_roi", (1, 284, 1, 1)),
        Block("desikan_roi", (7, 68, 1, 1)),
        Block("destrieux_roi", (7, 148, 1, 1)),
    )
)
"""The rows of the challenge: 3,659,572 values (ramp-kits/brain_age_with_site_removal, estimator.py)."""
_TABLES = [OPENBHB]


def current() -> BlockTable:
    """The block table that readers go by: OPENBHB, or the one of ``reading_as``."""
    return _TABLES[-1]


@contextmanager
def reading_as(table: BlockTable) -> Iterator[BlockTable]:
    """Read arrays of this process (and of its forks) by another block table: small look-alikes, later releases."""
    _TABLES.append(table)
    try:
        yield table
    finally:
        _TABLES.remove(table)


def git_blob(path: Path) -> str:
    """What ``git hash-object`` prints for a file: sha1 over a header and the bytes."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def read_mask(path: Path, block: Block) -> npt.NDArray[np.bool_]:
    """The mask (D, H, W) of a block, as stored.

    Errors: VolumeError where the file is absent or unreadable, on another grid, or has another number of voxels.
    """
    if not path.is_file():
        raise VolumeError(
            f"{path} does not exist, but {block.name} rows hold the voxels of that mask only; take "
            f"{block.mask_file} from the folder resource/ of OpenBHB"
        )
    state = path.stat()
    return _mask(path, block, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _mask(path: Path, block: Block, changed: int, size: int) -> npt.NDArray[np.bool_]:
    values = stored_nifti(path)
    if values.shape != block.shape[1:]:
        raise VolumeError(
            f"{path} has {by(values.shape)} voxels, but the mask of {block.name} has {by(block.shape[1:])}; give "
            f"{block.mask_file}"
        )
    inside = values > block.mask_above
    if inside.sum() != block.mask_voxels:
        raise VolumeError(
            f"{path} has {int(inside.sum()):,} voxels above {block.mask_above:g}, but the mask of {block.name} has "
            f"{block.mask_voxels:,}; give {block.mask_file} as published"
        )
    inside.setflags(write=False)
    return inside


def unmask(values_V: np.ndarray, mask_DHW: npt.NDArray[np.bool_]) -> np.ndarray:
    """Volume (D, H, W) float32 with the values at the mask's voxels in C order and 0 elsewhere; exact."""
    volume = np.zeros(mask_DHW.shape, np.float32)
    volume[mask_DHW] = values_V
    return volume


def masked(volume_DHW: np.ndarray, mask_DHW: npt.NDArray[np.bool_]) -> np.ndarray:
    """The values (V,) at the mask's voxels in C order: the inverse of ``unmask``."""
    return np.asarray(volume_DHW)[mask_DHW]


def by(shape: Sequence[int]) -> str:
    """A shape in words: "121 x 145 x 121"."""
    return " x ".join(str(n) for n in shape)
