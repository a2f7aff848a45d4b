from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from medssl import stages
from medssl.data.loading.dataset import ScanDataset
from medssl.encoders.file import load_encoder, weights_digest
from medssl.errors import TrainingStopped
from medssl.runs.folder import Run
from medssl.training import session
from medssl.training.checkpoints import checkpoint_name
from tests.conftest import tiny_recipe

QUICK = ("trainer.epochs=1", "monitors.every=0", "monitors.map=false")
pytestmark = pytest.mark.usefixtures("without_report")


def pretrain(method: str, manifest: Path, out: Path, *changes: str) -> Path:
    return stages.pretrain(method, *tiny_recipe(manifest, out, method), *QUICK, *changes, progress=False)


def digest(run: Path) -> str:
    return weights_digest(load_encoder(run / "encoder.safetensors"))


def losses(run: Path) -> list[float]:
    lines = (run / "logs" / "train.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def table_of(cohort: Path) -> pd.DataFrame:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table["image"] = [str(cohort.parent / name) for name in table["image"]]
    return table


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain("exponential", cohort, tmp_path_factory.mktemp("session") / "run")


def test_only_training_rows_decide_the_weights(trained: Path, cohort: Path, tmp_path: Path):
    table = table_of(cohort)
    (tmp_path / "broken.nii.gz").write_bytes(b"no gzip at all")
    tests = table["split"] != "train"
    assert tests.sum() > 8
    spoilt = np.where(np.arange(40) % 2, str(tmp_path / "broken.nii.gz"), "/nowhere/scan.nii.gz")
    table["image"] = table["image"].where(~tests, spoilt)
    table["age"] = table["age"].where(~tests, "33")
    table["site"] = table["site"].where(~tests, "elsewhere")
    table["sex"] = table["sex"].where(~tests, "")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    other = pretrain("exponential", tmp_path / "manifest.csv", tmp_path / "run")
    assert digest(other) == digest(trained)
    assert losses(other) == losses(trained)


def test_worker_processes_change_no_number(trained: Path, cohort: Path, tmp_path: Path):
    helped = pretrain("exponential", cohort, tmp_path / "run", "data.workers=2")
    assert losses(helped) == losses(trained)
    assert digest(helped) == digest(trained)


def test_what_a_silent_training_tells_names_its_run(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Telling(session.Monitor):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.say("collapse")

    monkeypatch.setattr(session, "Monitor", Telling)
    pretrain("l1_age", cohort, tmp_path / "run")
    assert f"medssl: {tmp_path / 'run'}: collapse" in capsys.readouterr().err


def test_another_seed_gives_other_weights(trained: Path, cohort: Path, tmp_path: Path):
    assert digest(pretrain("exponential", cohort, tmp_path / "run", "trainer.seed=1")) != digest(trained)


def test_brain_float_precision_trains_and_stays_near(trained: Path, cohort: Path, tmp_path: Path):
    half = pretrain("exponential", cohort, tmp_path / "run", "trainer.precision=bf16-mixed")
    assert losses(half) == pytest.approx(losses(trained), rel=0.05)
    weights = load_encoder(half / "encoder.safetensors").state_dict().values()
    assert all(w.dtype == torch.float32 and torch.isfinite(w).all() for w in weights)


def test_two_half_batches_take_the_first_step_of_a_whole_one(cohort: Path, tmp_path: Path):
    fixed = ["views.policy=none", "optim={name: sgd, lr: 0.01, schedule: constant}", "trainer.clip=null",
             "trainer.checkpoint_steps=1", "trainer.keep_checkpoints=9"]  # fmt: skip
    whole = pretrain("l1_age", cohort, tmp_path / "a", *fixed, "data.batch_size=8")
    halves = pretrain("l1_age", cohort, tmp_path / "b", *fixed, "data.batch_size=4", "trainer.accumulate=2")
    first, second = (
        torch.load(run / "checkpoints" / checkpoint_name(1), weights_only=True)["state_dict"] for run in (whole, halves)
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.allclose(value, second[key], atol=1e-6, rtol=0), key


def test_several_manifests_are_drawn_by_their_weights(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = table_of(cohort)
    table = table[table["split"] == "train"]
    few, many = table.iloc[:6], table.iloc[6:]
    few.to_csv(tmp_path / "few.csv", index=False)
    many.to_csv(tmp_path / "many.csv", index=False)
    drawn: Counter[str] = Counter()
    read = ScanDataset.__getitem__

    def count(self: ScanDataset, key: tuple[int, int]) -> Any:
        drawn["few" if key[0] < 6 else "many"] += self.maker is not None
        return read(self, key)

    monkeypatch.setattr(ScanDataset, "__getitem__", count)
    sources = f"data.manifests=[{{path: {tmp_path / 'few.csv'}, weight: 6}}, {{path: {tmp_path / 'many.csv'}}}]"
    run = pretrain("simclr", cohort, tmp_path / "run", "data.manifest=null", sources, "trainer.epochs=9")
    share = drawn["few"] / drawn.total()
    assert share == pytest.approx(36 / (36 + len(many)), abs=0.09)
    training = Run(run).read_info()["training"]
    assert training["manifests"] == [str(tmp_path / "few.csv"), str(tmp_path / "many.csv")]
    assert training["scans"] == len(table)


def test_a_loss_that_is_no_number_stops_with_step_and_cause(cohort: Path, tmp_path: Path):
    with pytest.raises(TrainingStopped, match=r"not finite at step \d+ \(epoch \d\).*(lower optim\.lr|weights became)"):
        pretrain(
            "l1_age", cohort, tmp_path / "run", "optim={name: sgd, lr: 1e30, schedule: constant}",
            "trainer.clip=null", "trainer.epochs=4",
        )  # fmt: skip
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    assert Run(tmp_path / "run").read_info()["state"] == "training"
