from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medssl.data.loading.balance import BalancedDraws
from medssl.data.loading.dataset import EpochBatches, ResumableLoader
from medssl.errors import UserError
from tests.data.loading.test_dataset import rows_of, scans

SIZES = (40, 17, 9, 3, 1)
ROWS = np.random.default_rng(0).permutation(200)[: sum(SIZES)]
GROUPS = np.full(200, 99)
GROUPS[ROWS] = np.repeat(np.arange(len(SIZES)), SIZES)


def plan(
    batch: int = 10, seed: int = 0, rank: int = 0, processes: int = 1, groups: np.ndarray = GROUPS
) -> EpochBatches:
    return EpochBatches(ROWS, batch, seed, rank, processes, groups=groups)


def rows(plan: EpochBatches, epoch: int) -> list[list[int]]:
    return [[draw.row for draw in batch] for batch in plan.batches(epoch)]


def per_site(batch: list[int], groups: np.ndarray = GROUPS) -> list[int]:
    return [int((groups[batch] == code).sum()) for code in np.unique(groups[ROWS])]


def test_every_batch_is_as_even_as_the_sites_reach_and_holds_no_scan_twice():
    for batch in (b for e in range(6) for b in rows(plan(), e)):
        assert len(set(batch)) == 10
        counts = per_site(batch)
        assert counts[4] == 1, "the site of one scan gives it"
        assert sorted(counts[:4]) == [2, 2, 2, 3]
    for batch in rows(plan(batch=30), 0):
        assert per_site(batch)[3:] == [3, 1], "a small site gives all it has"
        assert per_site(batch)[2] == 9 or max(per_site(batch)[:3]) - min(per_site(batch)[:3]) <= 1


def test_equal_sites_get_equal_places():
    groups = np.where(GROUPS == 99, 99, np.arange(200) % 5)
    groups[ROWS] = np.arange(len(ROWS)) % 5
    for batch in rows(plan(batch=10, groups=groups), 3):
        assert per_site(batch, groups) == [2] * 5


def test_more_sites_than_places_gives_different_sites_that_take_turns():
    groups = np.arange(200) // 4
    draws = Counter()
    for epoch in range(20):
        for batch in rows(plan(batch=8, groups=groups), epoch):
            assert len(set(groups[batch])) == 8
            draws.update(groups[batch].tolist())
    assert set(draws) == set(groups[ROWS].tolist())
    many = [n for code, n in draws.items() if (groups[ROWS] == code).sum() > 0]
    assert max(many) - min(many) <= 1


def test_every_scan_of_a_site_comes_once_before_any_comes_twice_across_epochs():
    made = plan()
    seen = Counter()
    for epoch in range(40):
        for batch in rows(made, epoch):
            seen.update(batch)
            for code, size in enumerate(SIZES):
                times = [seen[int(r)] for r in ROWS[GROUPS[ROWS] == code]]
                assert max(times) - min(times) <= 1 + (size < 10), (code, times)
    assert set(seen) == set(ROWS.tolist())


def test_an_epoch_is_a_function_of_seed_and_epoch_alone():
    straight = plan()
    told = [rows(straight, e) for e in range(6)]
    assert rows(plan(), 5) == told[5], "asked for at once, as after a resume"
    assert rows(straight, 2) == told[2], "asked for again"
    assert rows(straight, 3) == told[3]
    assert rows(plan(seed=1), 5) != told[5]
    assert told[4] != told[5]
    assert len(told[0]) == len(ROWS) // 10, "an epoch is as long as without balance"


def test_processes_get_disjoint_even_parts_of_the_same_batches():
    whole = rows(plan(batch=20), 2)
    parts = [rows(plan(batch=10, rank=rank, processes=2), 2) for rank in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first) == len(second) == 10
        assert sorted(first + second) == sorted(batch)
        assert all(abs(a - b) <= 1 for a, b in zip(per_site(first), per_site(second), strict=True))


def test_scans_without_a_site_are_one_site_more():
    groups = GROUPS.copy()
    groups[ROWS[:5]] = -1
    for batch in rows(plan(batch=12, groups=groups), 0):
        assert (groups[batch] == -1).sum() in (2, 3)


@pytest.mark.parametrize("done", [0, 3, 7, 11])
def test_a_loader_continues_where_its_state_says(done: int):
    def loader() -> ResumableLoader:
        groups = np.arange(30) % 3
        plan = EpochBatches(np.arange(30), 7, 0, groups=groups)
        return ResumableLoader(scans(), plan, 4, 0, lambda epoch: None)

    whole = rows_of(loader())
    resumed = loader()
    resumed.load_state_dict({"handed_out": done})
    assert rows_of(resumed) == whole[done:]
    assert len(whole) == 16


def test_weights_and_balance_exclude_each_other():
    with pytest.raises(UserError, match=r"data\.balance decides how often"):
        plan().batches(0, np.ones(200))


def test_counts_fill_evenly_whatever_the_sizes():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = rng.integers(1, 30, rng.integers(2, 12))
        batch = int(rng.integers(1, size.sum() + 1))
        draws = BalancedDraws(np.arange(size.sum()), np.repeat(np.arange(len(size)), size), batch, 1, 0)
        count = draws.counts(np.zeros(len(size), int), rng)
        assert count.sum() == batch
        assert (count <= size).all()
        short = count < size
        if short.any():
            assert count[short].max() - count[short].min() <= 1
            assert count.max() <= count[short].min() + 1


def test_a_site_that_balances_nothing_or_weights_are_named(cohort: Path, tmp_path: Path):
    import pandas as pd

    from medssl import stages
    from tests.conftest import tiny_recipe

    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table["image"] = [str(cohort.parent / name) for name in table["image"]]
    weighted, one = tmp_path / "weighted.csv", tmp_path / "one.csv"
    table.assign(weight=["2" if i % 2 else "1" for i in range(len(table))]).to_csv(weighted, index=False)
    table.assign(scanner="same").to_csv(one, index=False)
    for manifest, column, words in (
        (weighted, "site", "the column weight both say how often"),
        (one, "scanner", "every training row has the same 'scanner'"),
        (cohort, "sit", "site"),
    ):
        with pytest.raises(UserError, match=words):
            stages.pretrain(
                "simclr", *tiny_recipe(manifest, tmp_path / "run"), f"data.balance={column}", progress=False
            )
    assert not (tmp_path / "run").exists()
