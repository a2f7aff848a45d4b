"""Where the randomness of a view comes from: a pure function of five numbers, never a global state."""

from __future__ import annotations

import numpy as np

from medssl.errors import UserError

TARGETS = -1
"""The view number of the stream from which a view maker draws its answers (targets)."""


def rng_for(seed: int, epoch: int, scan: int, view: int, repeat: int = 0) -> np.random.Generator:
    """Generator of one view: the same for any number of workers or devices, any order, and after a resume.

    seed: of the run, 0 <= seed < 2^128. epoch, scan (row in the cohort), repeat (how often the scan was drawn before
    in this epoch): 0 to 2^32 - 1. view: -1 (the targets' stream) or a view number from 0. Different arguments give
    independent streams (numpy ``SeedSequence``).
    Raises UserError for numbers outside these ranges.
    """
    for name, value, low, bits in (
        ("seed", seed, 0, 128),
        ("epoch", epoch, 0, 32),
        ("scan", scan, 0, 32),
        ("view", view, -1, 31),
        ("repeat", repeat, 0, 32),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or not low <= value < 2**bits:
            raise UserError(f"{name} is {value!r}, but it must be a whole number from {low} to 2^{bits} - 1.")
    key: tuple[int, ...] = (int(epoch), int(scan), int(view) + 1)
    if repeat:  # a first draw has the key of three numbers, so that its views are those of earlier versions
        key = (*key, int(repeat))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=key)))
