from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from medssl.data.loading.batches import Draw
from medssl.data.loading.dataset import EpochBatches, Item, ResumableLoader, ScanDataset, collate, plain_batches
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import UserError
from medssl.views import ViewMaker, build_policy

ROWS = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])


class Shelf:
    """A cache whose volume of a row is filled with the row's number."""

    def load(self, images: tuple[Path, ...], preprocessing: Preprocessing) -> np.ndarray:
        volume = np.full((len(images), 2, 2, 2), float(images[0].name), np.float32)
        volume.setflags(write=False)
        return volume


def maker(x: Tensor, epoch: int, scan: int, repeat: int = 0) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return (x + epoch, x * 10), {"drawn": torch.tensor([float(scan), float(epoch)])}


def scans(rows: int = 30, **options: object) -> ScanDataset:
    meta = {"age": torch.arange(rows).float() / 2, "site": torch.arange(rows) % 3}
    return ScanDataset([(Path(str(r)),) for r in range(rows)], Shelf(), Preprocessing(), meta, **options)


def flat(batches: list[list[Draw]]) -> list[int]:
    return [draw.row for batch in batches for draw in batch]


def test_an_item_is_a_pure_function_of_row_and_epoch():
    item = scans(maker=maker)[7, 4]
    assert [float(v.mean()) for v in item["views"]] == [11.0, 70.0]
    assert item["views"][0].shape == (1, 2, 2, 2)
    assert int(item["index"]) == 7
    assert (float(item["meta"]["age"]), int(item["meta"]["site"])) == (3.5, 1)
    assert item["target"]["drawn"].tolist() == [7.0, 4.0]
    again = scans(maker=maker)[7, 4]
    assert all(torch.equal(a, b) for a, b in zip(item["views"], again["views"], strict=True))


def test_without_a_maker_there_is_one_clean_view():
    assert torch.equal(scans()[5, 0]["views"][0], torch.full((1, 2, 2, 2), 5.0))
    assert torch.equal(scans(clean=lambda x: x - 1)[5, 0]["views"][0], torch.full((1, 2, 2, 2), 4.0))
    assert len(scans()[5, 0]["views"]) == 1


class LateMaker:
    """Adds the epoch to a volume, alone or in a batch."""

    def __call__(
        self, x: Tensor, epoch: int, scan: int, repeat: int = 0
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        return (x + epoch, x + scan), self.answers(epoch, scan)

    def answers(self, epoch: int, scan: int, repeat: int = 0) -> dict[str, Tensor]:
        return {"drawn": torch.tensor([float(scan), float(epoch)])}

    def batch(self, x: Tensor, epochs: list[int], scans: list[int], repeats: list[int]) -> tuple[Tensor, ...]:
        return tuple(x + torch.tensor(k).view(-1, 1, 1, 1, 1) for k in (epochs, scans))


def test_late_items_hold_the_volume_and_are_finished_as_a_batch():
    early, late = scans(maker=LateMaker()), scans(maker=LateMaker())
    late.late = True
    keys = [(7, 4), (9, 4), (3, 5)]
    raw = default_collate([late[key] for key in keys])
    assert [len(raw["views"]), raw["epoch"].tolist()] == [1, [4, 4, 5]]
    assert raw["views"][0][:, 0, 0, 0, 0].tolist() == [7.0, 9.0, 3.0]
    expected, got = default_collate([early[key] for key in keys]), late.finish(raw)
    assert all(torch.equal(a, b) for a, b in zip(expected["views"], got["views"], strict=True))
    assert torch.equal(expected["target"]["drawn"], got["target"]["drawn"])
    assert early.finish(expected) is expected
    plain = default_collate([late.plain()[key] for key in keys])
    assert late.plain().finish(plain) is plain


def test_writing_into_a_volume_does_not_reach_the_cache():
    dataset = scans()
    dataset.volume(3).add_(1)
    assert torch.equal(dataset.volume(3), torch.full((1, 2, 2, 2), 3.0))


def test_every_row_comes_at_most_once_per_epoch_and_only_whole_batches():
    plan = EpochBatches(ROWS, 4, seed=0)
    for epoch in range(5):
        batches = plan.batches(epoch)
        assert [len(b) for b in batches] == [4, 4]
        assert len(set(flat(batches))) == 8
        assert set(flat(batches)) <= set(ROWS)
        assert {draw.epoch for batch in batches for draw in batch} == {epoch}


def test_the_order_depends_on_seed_and_epoch_alone():
    order = flat(EpochBatches(ROWS, 2, seed=3).batches(4))
    assert order == flat(EpochBatches(ROWS, 2, seed=3).batches(4))
    assert order != flat(EpochBatches(ROWS, 2, seed=4).batches(4))
    assert order != flat(EpochBatches(ROWS, 2, seed=3).batches(5))
    assert flat(EpochBatches(ROWS, 5, seed=3).batches(4)) == order, "the batch size cuts the same order"


def test_processes_share_an_epoch_without_overlap():
    parts = [flat(EpochBatches(ROWS, 2, 0, rank, 2).batches(1)) for rank in (0, 1)]
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[0]) == len(parts[1]) == 4
    assert set(parts[0] + parts[1]) == set(flat(EpochBatches(ROWS, 4, 0).batches(1)))


def test_weights_decide_how_often_a_row_is_drawn():
    weights = np.zeros(30)
    weights[[2, 3]] = 3.0
    weights[[5, 7]] = 1.0
    weights[6] = 100.0  # no training row
    plan = EpochBatches(ROWS, 10, seed=0)
    drawn = np.array([row for epoch in range(400) for row in flat(plan.batches(epoch, weights))])
    assert set(drawn) == {2, 3, 5, 7}
    assert np.isin(drawn, [2, 3]).mean() == pytest.approx(0.75, abs=0.02)


def test_accumulated_batches_never_cross_an_epoch():
    assert EpochBatches(ROWS, 2, 0, accumulate=2).per_epoch == 4
    assert EpochBatches(ROWS, 3, 0, accumulate=3).per_epoch == 3
    with pytest.raises(UserError, match=r"trainer\.accumulate=2"):
        EpochBatches(ROWS, 4, 0, accumulate=3)


def test_a_batch_larger_than_the_cohort_names_a_size_that_fits():
    with pytest.raises(UserError, match=r"needs at least 11 training scans, not 10; set data\.batch_size=5"):
        EpochBatches(ROWS, 11, 0)
    with pytest.raises(UserError, match=r"on each of 2 processes needs at least 12"):
        EpochBatches(ROWS, 6, 0, processes=2)


def loader(epochs: int = 3, workers: int = 0, seen: list[int] | None = None) -> ResumableLoader:
    def before(epoch: int) -> np.ndarray | None:
        if seen is not None:
            seen.append(epoch)
        return None

    return ResumableLoader(scans(maker=maker), EpochBatches(ROWS, 4, 0), epochs, workers, before)


def rows_of(batches: ResumableLoader) -> list[list[int]]:
    return [item["index"].tolist() for item in batches]


def test_one_pass_is_the_whole_training_and_asks_before_every_epoch():
    seen: list[int] = []
    batches = loader(seen=seen)
    rows = rows_of(batches)
    assert len(batches) == len(rows) == 6
    assert seen == [0, 1, 2]
    plan = EpochBatches(ROWS, 4, 0)
    assert rows == [[draw.row for draw in b] for e in range(3) for b in plan.batches(e)]
    assert rows_of(batches) == [], "what was handed out is not handed out again"


@pytest.mark.parametrize("done", [0, 1, 2, 3, 6])
def test_a_loader_continues_where_its_state_says(done: int):
    whole = rows_of(loader())
    stopped = loader()
    for _, _ in zip(range(done), stopped, strict=False):
        pass
    state = {"handed_out": done, "joint": 4, "per_epoch": 2}
    resumed = loader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert rows_of(resumed) == whole[done:]


def test_worker_processes_give_the_same_batches():
    alone, helped = list(loader()), list(loader(workers=2))
    assert len(alone) == len(helped)
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a["index"], b["index"])
        assert all(torch.equal(v, w) for v, w in zip(a["views"], b["views"], strict=True))
        assert torch.equal(a["target"]["drawn"], b["target"]["drawn"])


def late_loader(workers: int, seen: list[tuple[int, bool]] | None = None) -> ResumableLoader:
    late = scans(maker=LateMaker())
    late.late = True

    def before(epoch: int) -> None:
        if seen is not None:
            seen.append((epoch, threading.current_thread() is threading.main_thread()))

    return ResumableLoader(late, EpochBatches(ROWS, 4, 0), 3, workers, before)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_that_only_read_give_the_batches_of_worker_processes(workers: int):
    seen: list[tuple[int, bool]] = []
    loader = late_loader(workers, seen)
    threads: list[Item] = []
    before = set(multiprocessing.active_children())
    for item in loader:
        threads.append(item)
        assert loader.handed_out == len(threads)
        assert len(seen) == 1 + (len(threads) - 1) // 2, "an epoch is chosen when its first batch is asked for"
    assert set(multiprocessing.active_children()) <= before
    assert seen == [(0, True), (1, True), (2, True)]
    keys = [batch for epoch in range(3) for batch in loader.plan.batches(epoch)]
    dataset = scans(maker=LateMaker())
    dataset.late = True
    processes = list(DataLoader(dataset, batch_sampler=keys, num_workers=2, collate_fn=collate))
    assert len(threads) == len(processes) == 6
    for a, b in zip(threads, processes, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in ("index", "epoch"))
        assert all(torch.equal(v, w) for v, w in zip(a["views"], b["views"], strict=True))
        assert torch.equal(a["target"]["drawn"], b["target"]["drawn"])
        assert all(torch.equal(a["meta"][name], b["meta"][name]) for name in ("age", "site"))


def test_threads_continue_where_the_state_says():
    whole = rows_of(late_loader(2))
    for done in range(7):
        resumed = late_loader(2)
        resumed.load_state_dict({"handed_out": done, "joint": 4, "per_epoch": 2})
        assert rows_of(resumed) == whole[done:]


def test_closing_ends_the_threads_also_in_the_middle():
    before = threading.active_count()
    batches = late_loader(2)
    next(iter(batches))
    batches.close()
    assert threading.active_count() == before
    batches.close()


def test_closing_ends_the_worker_processes_also_in_the_middle():
    batches = loader(workers=2)
    before = set(multiprocessing.active_children())
    first = next(iter(batches))["index"].tolist()
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    assert set(multiprocessing.active_children()) <= before
    batches.close()
    assert rows_of(loader())[0] == first


def test_the_weights_of_an_epoch_are_used_in_that_epoch():
    only = np.zeros(30)
    only[19] = 1.0
    plan = EpochBatches(ROWS, 4, 0)
    batches = ResumableLoader(scans(maker=maker), plan, 2, 0, lambda epoch: only if epoch == 1 else None)
    rows = rows_of(batches)
    assert len(set(rows[0] + rows[1])) == 8
    assert rows[2] == rows[3] == [19] * 4


def test_plain_reading_gives_every_row_once_in_order_without_augmentation():
    dataset = scans(maker=maker)
    with plain_batches(dataset, [np.array([4, 9]), np.array([1])]) as batches:
        items = list(batches)
    assert [i["index"].tolist() for i in items] == [[4, 9], [1]]
    assert [len(i["views"]) for i in items] == [1, 1]
    assert items[0]["views"][0].flatten(1).mean(1).tolist() == [4.0, 9.0]
    assert items[0]["meta"]["site"].tolist() == [1, 0]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(("batch", "processes"), [(4, 1), (2, 2), (2, 1), (1, 1), (3, 2), (1, 3)])
def test_another_plan_continues_at_the_same_scan_of_the_epoch(batch: int, processes: int, accumulate: int):
    many = np.arange(50)
    before = EpochBatches(many, 4, 0, processes=2, accumulate=1)
    plan = EpochBatches(many, batch, 0, processes=processes, accumulate=accumulate)
    counts = {"joint": before.joint, "per_epoch": before.per_epoch}
    for done in range(3 * before.per_epoch):
        epoch, offset = divmod(plan.resumed(done, counts), plan.per_epoch)
        assert epoch == done // before.per_epoch
        assert offset % accumulate == 0
        seen, again = done % before.per_epoch * before.joint, offset * plan.joint
        assert seen - plan.joint * accumulate < again <= seen, "no scan is left out, less than a step comes twice"
    assert plan.resumed(3 * before.per_epoch, counts) == 3 * plan.per_epoch


def test_the_same_joint_batch_continues_at_the_same_batch():
    two, one = EpochBatches(ROWS, 2, 0, 1, 2), EpochBatches(ROWS, 4, 0)
    counts = {"joint": two.joint, "per_epoch": two.per_epoch}
    assert [one.resumed(n, counts) for n in range(7)] == list(range(7))


GROUPS = np.where(np.arange(30) == 2, 1, 0)  # row 2 is a site of its own, so that every balanced batch holds it
WEIGHTS = np.where(np.arange(30) == 3, 50.0, 1.0)
DRAWN = {"weights": (None, WEIGHTS), "balance": (GROUPS, None)}
drawn_again = pytest.mark.parametrize("kind", DRAWN)


def plan_of(kind: str, batch: int = 4, rank: int = 0, processes: int = 1) -> EpochBatches:
    return EpochBatches(ROWS, batch, 0, rank, processes, groups=DRAWN[kind][0])


@drawn_again
def test_every_draw_of_a_scan_in_an_epoch_has_its_own_number(kind: str) -> None:
    draws = [draw for batch in plan_of(kind).batches(3, DRAWN[kind][1]) for draw in batch]
    assert len(set(draws)) == len(draws)
    again: dict[int, int] = {}
    for draw in draws:
        assert draw == (draw.row, 3, again.get(draw.row, 0))
        again[draw.row] = draw.repeat + 1
    assert max(again.values()) > 1, "no scan is drawn twice, so that nothing is tested"
    assert {draw.repeat for batch in EpochBatches(ROWS, 4, 0).batches(3) for draw in batch} == {0}


@drawn_again
def test_repeats_are_counted_over_all_processes(kind: str) -> None:
    whole = plan_of(kind).batches(1, DRAWN[kind][1])
    parts = [plan_of(kind, 2, rank, 2).batches(1, DRAWN[kind][1]) for rank in (0, 1)]
    for one, left, right in zip(whole, *parts, strict=True):
        assert sorted(one) == sorted([*left, *right])
    assert any(draw.repeat for batch in parts[1] for draw in batch)


def seen(workers: int = 0, late: bool = False, done: int = 0) -> list[tuple[int, bytes, bytes]]:
    """Row, first view and answer of every draw of a training on weighted scans, after ``done`` batches."""
    noise = ViewMaker(build_policy([{"noise": {"sd": [0.5, 1.0]}}]), 1, wants={"latent": (3,)}, seed=4)
    dataset = scans(maker=noise)
    dataset.late = late
    loader = ResumableLoader(dataset, plan_of("weights"), 2, workers, lambda epoch: WEIGHTS)
    loader.load_state_dict({"handed_out": done})
    made: list[tuple[int, bytes, bytes]] = []
    for item in loader:
        views, latent = dataset.finish(item)["views"][0], item["target"]["latent"]
        pixels = (views * 1e4).round() if late else views
        made += [
            (int(row), x.numpy().tobytes(), answer.numpy().tobytes())
            for row, x, answer in zip(item["index"], pixels, latent, strict=True)
        ]
    loader.close()
    return made


@pytest.mark.parametrize("late", [False, True])
def test_a_scan_drawn_twice_is_never_shown_twice_in_the_same_way(late: bool) -> None:
    draws = seen(late=late)
    assert len({row for row, *_ in draws}) < len(draws) / 2, "no scan is drawn often, so that nothing is tested"
    assert len({view for _, view, _ in draws}) == len(draws)
    assert len({answer for *_, answer in draws}) == len(draws)


def test_repeated_draws_are_the_same_for_any_number_of_workers_and_after_a_resume() -> None:
    whole = seen()
    assert seen(workers=2) == whole
    assert seen(done=1) == whole[4:], "in the middle of an epoch"
    assert seen(done=3) == whole[12:]
