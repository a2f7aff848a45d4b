from __future__ import annotations

import torch

from medssl.training.seeding import step_seed


def test_a_seed_is_a_pure_function_of_run_step_and_rank():
    seeds = [step_seed(seed, step, rank) for seed in (0, 1) for step in (0, 1, 2) for rank in (0, 1)]
    assert seeds == [step_seed(seed, step, rank) for seed in (0, 1) for step in (0, 1, 2) for rank in (0, 1)]
    assert len(set(seeds)) == len(seeds)


def test_a_seed_fits_torch():
    for step in range(200):
        seed = step_seed(2**62, step)
        assert 0 <= seed < 2**63
        torch.manual_seed(seed)
