"""The rows of the OpenBHB challenge: where each modality stands, its shape, its voxel size and its mask.

Source: ramp-kits/brain_age_with_site_removal, estimator.py and preprocessing.py (2022-09-19).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medssl.errors import UserError


@dataclass(frozen=True)
class Block:
    """One modality. shape: (C, D, H, W) as stored. spacing: voxel size in mm, None where there is no grid.

    mask_variable: the environment variable in which the server names the mask, "" where values are stored whole;
    mask_above: voxels above this value belong to it; mask_voxels: how many there are.

    **Orientation.** Volumes stay in the order in which they are stored (the first axis runs to the left): nothing
    is permuted or flipped, neither when medssl reads a row of an array nor on the server.
    """

    name: str
    shape: tuple[int, int, int, int]
    spacing: float | None = None
    mask_variable: str = ""
    mask_above: float = 0.0
    mask_voxels: int = 0

    @property
    def size(self) -> int:
        """Values in a row."""
        return self.mask_voxels or math.prod(self.shape)


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
        """The block of a modality; UserError for an unknown one."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise UserError(f"there is no modality '{name}' in the challenge's rows; known are {', '.join(self.names)}")

    def span(self, name: str) -> slice:
        """Where the block stands in a row; UserError for an unknown one."""
        wanted, start = self.block(name), 0
        for block in self.blocks:
            if block is wanted:
                break
            start += block.size
        return slice(start, start + wanted.size)


OPENBHB = BlockTable(
    (
        Block("vbm", (1, 121, 145, 121), 1.5, "VBM_MASK", 0.05, 519_945),
        Block("quasiraw", (1, 182, 218, 182), 1.0, "QUASIRAW_MASK", 0.0, 1_827_095),
        Block("xhemi", (8, 163_842, 1, 1)),
        Block("vbm_roi", (1, 284, 1, 1)),
        Block("desikan_roi", (7, 68, 1, 1)),
        Block("destrieux_roi", (7, 148, 1, 1)),
    )
)
"""3,659,572 float32 values per scan."""
