"""Pieces of a table of features that was not finished, which a later call takes up where they are whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medssl.files import BROKEN_ARRAYS, write_atomic


def piece_path(folder: Path, start: int) -> Path:
    """File of the rows from ``start``."""
    return folder / f"part-{start:08d}.npz"


def write_piece(folder: Path, start: int, values: np.ndarray, looks: np.ndarray) -> None:
    """Keep features (n, D) and looks (n, J) of the rows from ``start``; the file carries checksums (those of zip)."""
    write_atomic(piece_path(folder, start), partial(np.savez, start=np.array(start), values=values, looks=looks))


def read_piece(folder: Path, start: int, rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What ``write_piece`` kept of ``rows`` rows; None where it is absent, damaged, or of other rows."""
    try:
        with np.load(piece_path(folder, start), allow_pickle=False) as kept:
            found, values, looks = kept["start"], kept["values"], kept["looks"]
    except BROKEN_ARRAYS:
        return None
    if found.ndim or int(found) != start or len(values) != rows or len(looks) != rows:
        return None
    return values, looks
