from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl import stages
from medssl.errors import TrainingStopped
from tests.conftest import tiny_recipe


def test_an_encoder_that_the_last_step_spoilt_is_not_written(cohort: Path, tmp_path: Path):
    """Its weights are finite and its features are not, which no loss tells, since no step follows."""
    changes = [*tiny_recipe(cohort, tmp_path / "run"), "trainer.epochs=1", "monitors.every=0", "monitors.map=false"]
    with pytest.raises(TrainingStopped, match=r"NaN or Inf after the last step.*optim.final_lr 1e\+12\) or trainer"):
        stages.pretrain("exponential", *changes, "optim.warmup=0.5", "optim.final_lr=1e12", progress=False)
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] != "finished"
