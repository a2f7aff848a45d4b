"""Views that are made where the network is: the numbers of the loader's views, and the same bits after a resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.data.loading.dataset import EpochBatches, ResumableLoader, ScanDataset
from medssl.data.volumes.preprocess import Preprocessing
from medssl.training.adapter import MethodModule, fit
from medssl.training.options import TrainerOptions
from medssl.types import Batch, Progress, Step
from medssl.views import ViewMaker, build_policy
from tests.training.test_adapter import SCANS, SGD, Record, Toy

SHAPE = (1, 12, 14, 11)


class Shelf:
    """A cache of smooth random scans in a background of zeros."""

    def load(self, images: tuple[Path, ...], preprocessing: Preprocessing) -> np.ndarray:
        x = np.random.default_rng(int(images[0].name)).standard_normal(SHAPE).astype(np.float32)
        x[:, :2], x[:, :, :3] = 0, 0
        return x


class Watcher(Toy):
    """Keeps every batch that it is shown, and trains on the spread of its views."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    def step(self, batch: Batch, progress: Progress) -> Step:
        self.batches.append(batch)
        self.notes["w"].append(float(self.w.detach()))
        return Step({"loss": (torch.stack(batch.views).std() * self.w - 1) ** 2})


def train(run: Path, late: bool, workers: int = 0, resume: Path | None = None, **options: Any) -> Watcher:
    settings = TrainerOptions(
        **{"epochs": 2, "accelerator": "cpu", "clip": None, "checkpoint_steps": 1, "keep_checkpoints": 9, **options}
    )
    data = ScanDataset([(Path(str(r)),) for r in range(SCANS)], Shelf(), Preprocessing(), {})
    data.maker = ViewMaker(build_policy("robust"), wants={"latent": (3,)}, seed=5)
    data.late = late

    def loader(rank: int, processes: int, before: Callable[[int], Any]) -> ResumableLoader:
        return ResumableLoader(data, EpochBatches(np.arange(SCANS), 4, 0), settings.epochs, workers, before)

    method = Watcher()
    hooks = replace(Record(4, settings).hooks, loader=loader, finish=data.finish)
    fit(MethodModule(method, SGD, settings, hooks), run, resume)
    return method


def spread(x: Tensor) -> float:
    return float(x.max() - x.min())


@pytest.mark.parametrize("workers", [0, 2])
def test_the_method_sees_the_loaders_views(tmp_path: Path, workers: int):
    there, here = train(tmp_path / "a", late=False), train(tmp_path / "b", late=True, workers=workers)
    assert len(there.batches) == len(here.batches) == 6
    for a, b in zip(there.batches, here.batches, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.target["latent"], b.target["latent"])
        assert len(a.views) == len(b.views) == 2
        for v, w in zip(a.views, b.views, strict=True):
            assert v.shape == w.shape == (4, *SHAPE)
            assert (v - w).abs().max() < 1e-4 * spread(v)
    assert here.notes["w"] == pytest.approx(there.notes["w"], rel=1e-4)


def test_a_resumed_training_has_the_same_bits(tmp_path: Path):
    whole = train(tmp_path / "a", late=True)
    rest = train(tmp_path / "b", late=True, resume=tmp_path / "a" / "checkpoints" / "step-00000002.ckpt")
    assert rest.notes["w"] == whole.notes["w"][2:]
    for a, b in zip(whole.batches[2:], rest.batches, strict=True):
        assert all(torch.equal(v, w) for v, w in zip(a.views, b.views, strict=True))


def test_mixed_precision_leaves_the_views_in_single_precision(tmp_path: Path):
    full, mixed = train(tmp_path / "a", late=True), train(tmp_path / "b", late=True, precision="bf16-mixed")
    for a, b in zip(full.batches, mixed.batches, strict=True):
        assert all(torch.equal(v, w) for v, w in zip(a.views, b.views, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_batches_for_a_gpu_lie_in_page_locked_memory():
    data = ScanDataset([(Path(str(r)),) for r in range(SCANS)], Shelf(), Preprocessing(), {"age": torch.ones(SCANS)})
    plain, pinned = (
        list(ResumableLoader(data, EpochBatches(np.arange(SCANS), 4, 0), 2, 2, lambda epoch: None, pin))
        for pin in (False, True)
    )
    for a, b in zip(plain, pinned, strict=True):
        assert all(x.is_pinned() for x in (b["views"][0], b["index"], b["meta"]["age"]))
        assert torch.equal(a["views"][0], b["views"][0])
