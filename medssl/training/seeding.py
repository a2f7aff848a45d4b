"""Seeds as pure functions of where the training stands, so that a resumed run draws the same numbers."""

from __future__ import annotations

import numpy as np


def step_seed(seed: int, step: int, rank: int = 0, part: int | None = None) -> int:
    """Seed of everything drawn inside one step (dropout): a 63-bit number for ``torch.manual_seed``.

    part: number of a micro-batch of the step, which draws its own.
    """
    parts = [] if part is None else [part]
    words = np.random.SeedSequence([seed, step, rank, 0x57E9, *parts]).generate_state(1, np.uint64)
    return int(words[0] >> 1)
