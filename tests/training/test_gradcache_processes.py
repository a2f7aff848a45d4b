"""Gradient caching on two devices, through the trainer and real processes (gloo on a CPU)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medssl.training.options import TrainerOptions
from tests.methods.bench import Bench
from tests.training.test_adapter import SGD, Record

ROOT = Path(__file__).resolve().parents[2]
STEPS = 2


def train(folder: Path, devices: int, scans: int, micro: int | None) -> None:
    """Two steps of y_aware on fixed batches of 8 scans, split over devices; weights go to ``folder``."""
    from medssl.training.adapter import MethodModule, fit

    options = TrainerOptions(
        epochs=1, accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto",
        precision="32-true", micro_batch=micro, clip=None,
    )  # fmt: skip
    bench = Bench("y_aware")
    record = Record(4, options)

    class Fixed:
        plan = type("Plan", (), {"per_epoch": STEPS, "joint": 8})

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __len__(self) -> int:
            return STEPS

        def __iter__(self):  # type: ignore[no-untyped-def]
            for step in range(STEPS):
                rows = [8 * step + scans * self.rank + i for i in range(scans)]
                batch = bench.batch(rows)
                yield {"views": list(batch.views), "index": batch.index, "meta": dict(batch.meta), "target": {}}

    object.__setattr__(record.hooks, "loader", lambda rank, processes, before: Fixed(rank))
    module = MethodModule(bench.start(), SGD, options, record.hooks)
    fit(module, folder)
    if module.global_rank == 0:
        torch.save(bench.method.state_dict(), folder / "weights.pt")


@pytest.mark.slow  # starts two interpreters
@pytest.mark.parametrize("micro", [3, None])
def test_two_devices_train_as_one(micro: int | None, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    train(tmp_path, 1, 8, None)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "two"), str(micro or 0)], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    start = Bench("y_aware").start().state_dict()
    one, two = (torch.load(p / "weights.pt", weights_only=True) for p in (tmp_path, tmp_path / "two"))
    moved = max(float((one[k] - start[k]).abs().max()) for k in one)
    assert moved > 1e-3
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-4 * moved, msg=key)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), 2, 4, int(sys.argv[2]) or None)
