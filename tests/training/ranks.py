"""Whole trainings on two processes, ``torchrun ... -m tests.training.ranks OUT GROUP``, and alone (``train_case``)."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medssl.data.loading.dataset import ScanDataset
from medssl.data.volumes.preprocess import Preprocessing
from medssl.distributed import embed_in_parts
from medssl.encoders import build_encoder
from medssl.errors import TrainingStopped
from medssl.methods.contrastive.two_view import TwoView
from medssl.recipe.catalog import build_method
from medssl.recipe.model import load_recipe
from medssl.training.options import MonitorOptions, Optimisation, TrainerOptions
from medssl.training.session import train
from medssl.types import Batch, Facts, Progress, Step
from medssl.views.pair import ViewMaker
from medssl.views.policies import build_policy
from tests.methods.bench import SCANS, SHAPE, columns, small, tiny, volumes
from tests.methods.ranks import CASES as METHOD_CASES
from tests.methods.ranks import trace, uneven
from tests.pair import once, run_pair
from tests.ready import run_two

JOINT = 8  # scans per step, of all processes
STEPS = 3  # per epoch, of two
WITH_BATCH_NORM = {"name": "resnet18", "width": 4, "depth": [1, 1], "norm": "batch", "stem": "small"}
FAST = ("simclr", "moco")
MORE = ("moco", "simclr-sharded")
ODD, CPU = np.array([7, 3, 9, 4, 5]), torch.device("cpu")
VIT = {"name": "vit", "patch": 4, "width": 24, "depth": 2, "heads": 2}
CASES: dict[str, dict[str, Any]] = {
    "simclr": {},
    "moco": {"method": {"queue": 10}, "accumulate": 2},
    "deepcluster": {},
    "bigan": {},
    "y_aware": {"method": {"missing": "drop"}, "uneven": True},
    "exponential": {"balance": "site"},
    "l1_age": {"clip": 0.5, "uneven": True},
    "mae": {"strategy": "fsdp"},
    "threshold": {"strategy": "fsdp", "encoder": VIT, "clip": 0.5, "accumulate": 2},
    "simclr-sharded": {"strategy": "fsdp", "encoder": VIT, "optim": "adamw"},
}
ALIKE = {
    "deepcluster-batchnorm": {"encoder": WITH_BATCH_NORM, "method": {"every": 1}, "epochs": 3}
}  # processes agree with each other only


class Shelf:
    """A cache in memory."""

    def __init__(self) -> None:
        self.x = volumes().numpy()

    def load(self, images: tuple[Path, ...], preprocessing: Preprocessing) -> np.ndarray:
        return self.x[int(images[0].name)]


def train_case(
    case: str, run: Path, processes: int, resume: Path | None = None, joint: int = JOINT
) -> dict[str, torch.Tensor]:
    """Train one case in ``run`` with ``joint`` scans per step; returns the state of the method."""
    asked, name = (CASES | ALIKE)[case], case.partition("-")[0]
    recipe = load_recipe(name)
    meta = uneven(columns()) if asked.get("uneven") else columns()
    labels = {k: np.where(v.numpy() == -1, np.nan, v.numpy().astype(float)) for k, v in meta.items()}
    accumulate = asked.get("accumulate", 1)
    batch = joint // processes // accumulate
    facts = Facts(SCANS, np.arange(SCANS), batch * processes, SHAPE, labels)
    torch.manual_seed(0)
    encoder = build_encoder(**asked.get("encoder", tiny(recipe)), in_channels=1, shape=SHAPE[1:])
    method = build_method(name, encoder, facts, small(recipe.method.arguments) | asked.get("method", {}))
    maker = ViewMaker(build_policy(recipe.views.policy), n_views=method.views, wants=dict(method.wants), seed=0)
    files = [(Path(str(row)),) for row in range(SCANS)]
    table = pd.DataFrame({k: v.numpy() for k, v in meta.items()} | {"weight": 1.0})
    table["participant_id"] = table["subject"] = table["subject"].astype(str)
    table["site"] = table["site"].astype(str)
    strategy = "auto" if processes == 1 else asked.get("strategy", "ddp")
    trained = train(
        method,
        ScanDataset(files, Shelf(), Preprocessing(), meta, maker),
        np.arange(SCANS),
        table,
        run,
        title=case,
        batch=batch,
        workers=0,
        optim=Optimisation(name=asked.get("optim", "sgd"), lr=0.01, schedule="cosine"),
        trainer=TrainerOptions(
            epochs=asked.get("epochs", 2), accelerator="cpu", devices=processes, strategy=strategy,
            accumulate=accumulate, clip=asked.get("clip"), keep_checkpoints=99, checkpoint_steps=1, log_steps=1,
            timeout=60.0, precision="32-true",
        ),
        monitors=MonitorOptions(every=1, map=False),
        balance=meta[asked["balance"]].numpy() if "balance" in asked else None,
        resume=resume,
        progress=False,
    )  # fmt: skip
    return trained.state_dict()


def interrupted(rank: int, run: Path) -> str:
    """What a process says when the loss of the second one is no number from the third step on."""
    plain = TwoView.step

    def step(self: TwoView, batch: Batch, progress: Progress) -> Step:
        out = plain(self, batch, progress)
        return Step({"loss": out.losses["loss"] * (float("nan") if rank == 1 and progress.step == 2 else 1.0)})

    TwoView.step = step  # type: ignore[method-assign]
    try:
        train_case("simclr", run, 2)
    except TrainingStopped as stop:
        return str(stop)
    finally:
        TwoView.step = plain  # type: ignore[method-assign]
    return "trained on"


def fast_pair(factory: pytest.TempPathFactory) -> Path:
    """The folder of the pair that runs in the fast tests; it and ``slow_pair`` differ in their cases."""
    return once(factory, "pair-fast", lambda out: _fill(out, "fast"))


def slow_pair(factory: pytest.TempPathFactory) -> Path:
    """The folder of the pair that runs in the slow tests."""
    return once(factory, "pair-slow", lambda out: _fill(out, "slow"))


def cases_of(group: str) -> list[str]:
    return [case for case in CASES if (case in FAST) == (group == "fast")]


def _fill(out: Path, group: str) -> None:
    for case in cases_of(group):
        torch.save(train_case(case, out / "one" / case, 1), out / f"{case}-one.pt")
    if group == "fast":  # as under torchrun, which starts the slow pair
        run_two(main, out, group)
    else:
        run_pair("tests.training.ranks", out, group)


def main(out: Path, group: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    rank = dist.get_rank()
    if group == "fast":
        torch.save({f"{n}-{k}": trace(n, k) for n, k in METHOD_CASES}, out / f"methods-rank{rank}.pt")
        odd = embed_in_parts(lambda part: (torch.from_numpy(part), torch.from_numpy(part)[:, None] * 2.0), ODD, CPU)
        torch.save(odd, out / f"odd-rank{rank}.pt")
    for case in cases_of(group):
        torch.save(train_case(case, out / "two" / case, 2), out / f"{case}-two-rank{rank}.pt")
        if case in MORE:  # continue after four steps of one process
            before = out / "one" / case / "checkpoints" / "step-00000004.ckpt"
            torch.save(train_case(case, out / "more" / case, 2, before), out / f"{case}-more-rank{rank}.pt")
    if group == "slow":
        for case in ALIKE:
            torch.save(train_case(case, out / "two" / case, 2), out / f"{case}-two-rank{rank}.pt")
        (out / f"stopped-rank{rank}.txt").write_text(interrupted(rank, out / "stopped"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
