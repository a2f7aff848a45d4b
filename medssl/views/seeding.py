"""Where the randomness of a view comes from: a pure function of four numbers, never a global state."""

from __future__ import annotations

import numpy as np

from medssl.errors import UserError

TARGETS = -1
"""The view number of the stream from which a view maker draws its answers (targets)."""


def rng_for(seed: int, epoch: int, scan: int, view: int) -> np.random.Generator:
    """Generator of one view: the same for any number of workers or devices, any order, and after a resume.

    seed: of the run, 0 <= seed < 2^128. epoch, scan (row in the cohort): 0 to 2^32 - 1. view: -1 (the targets'
    stream) or a view number from 0. Different arguments give independent streams (numpy ``SeedSequence``).
    Raises UserError for numbers outside these ranges.
    """
    for name, value, low, bits in (
        ("seed", seed, 0, 128),
        ("epoch", epoch, 0, 32),
        ("scan", scan, 0, 32),
        ("view", view, -1, 31),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not low <= value < 2**bits:
            raise UserError(f"{name} is {value!r}, but it must be a whole number from {low} to 2^{bits} - 1.")
    key = (int(epoch), int(scan), int(view) + 1)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=key)))
