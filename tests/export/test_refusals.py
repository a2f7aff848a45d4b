from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from medssl import stages
from medssl.errors import StaleError, UserError
from medssl.export import openbhb
from medssl.export.openbhb import export_openbhb
from tests.export.conftest import SMALL, TABLE, make_run, predicted

VIT = {"name": "vit", "width": 24, "depth": 1, "heads": 2, "patch": 8}


def test_own_scans_are_exported_for_the_modality_that_is_named(tmp_path: Path):
    run = make_run(tmp_path / "run", cells=["a.nii.gz", "b.nii.gz"])
    with pytest.raises(UserError, match="does not tell which images of OpenBHB it was trained on"):
        export_openbhb(run, tmp_path / "out", table=TABLE)
    folder = export_openbhb(run, tmp_path / "out", modality="quasiraw", table=TABLE)
    assert pd.read_pickle(folder / "metadata.pkl")["modality_known_from"] == "option"


def refused(words: str, run: Path, out: Path, **options: Any) -> None:
    """An export that fails in one sentence and writes nothing."""
    before = sorted(p for p in out.parent.rglob("*"))
    with pytest.raises(UserError, match=words) as caught:
        export_openbhb(run, out, **{"table": TABLE, **options})
    assert "\n" not in str(caught.value)
    assert sorted(p for p in out.parent.rglob("*")) == before


def test_images_of_another_modality_are_not_embedded(tmp_path: Path):
    run = make_run(tmp_path / "run", "vbm")
    (tmp_path / "m.csv").write_text("participant_id,image\np,train.npy#quasiraw@0\n")
    with pytest.raises(UserError, match=r"was trained on vbm, but .*m\.csv names images of quasiraw"):
        stages.embed(run, tmp_path / "m.csv", tmp_path / "f.csv", progress=False)
    assert not (tmp_path / "f.csv").exists()


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"modality": "vbm"}, "was trained on quasiraw, not on vbm"),
        ({"cells": ["a.npy"]}, {"modality": "vbm"}, "reads 20 x 22 x 19 voxels, but vbm gives 18 x 21 x 18"),
        ({"cells": ["a.npy"]}, {"modality": "vbm_roi"}, "reads 8360 values per scan, but vbm_roi has 6"),
        ({"cells": ["a.npy"]}, {"modality": "t1w"}, "no modality 't1w'"),
        ({"cells": ["a.npy#vbm@1", "a.npy#quasiraw@1"]}, {}, "several modalities"),
        ({"head": None}, {"features": "z"}, "has no projection head, so there is no z; export it with --features h"),
        ({}, {"features": "y"}, "features 'y' must be h"),
        ({"state": "training"}, {}, "is not finished, so it cannot be exported; go on with `medssl pretrain --resume"),
        (
            {"spec": VIT, "head": None, "prep": {"shape": [16, 16, 16]}},
            {},
            "encoder 'vit', which cannot be exported as plain PyTorch; train one of alexnet3d",
        ),
        (
            {"modality": "vbm_roi", "spec": {"name": "mlp", "hidden": [10_001], "norm": "none"}, "head": None},
            {},
            "gives 10001 features .*at most 10000",
        ),
        ({"head": nn.Linear(8, 10_001)}, {"features": "z"}, "gives 10001 features"),
    ],
)  # fmt: skip
def test_what_cannot_be_submitted_is_refused_in_one_sentence(
    changes: dict[str, Any], options: dict[str, Any], words: str, tmp_path: Path
):
    refused(words, make_run(tmp_path / "run", **changes), tmp_path / "out", **options)


@pytest.mark.parametrize("name", ["lh_bankssts_volume", "vbm_roi_1_0", "vbm_roi_0_6", "desikan_roi_0_0"])
def test_columns_whose_place_is_not_known_are_refused(name: str, tmp_path: Path):
    columns = {"names": ["vbm_roi_0_0", name], "mean": [0.0, 0.0], "sd": [1.0, 1.0]}
    spec = {"name": "mlp", "hidden": [9, 8], "norm": "batch"}
    run = make_run(tmp_path / "run", "vbm_roi", spec, head=None, cells=["a.nii"], columns=columns)
    refused("place in the rows of vbm_roi is not known|several modalities", run, tmp_path / "out")


def test_ten_thousand_features_pass(tmp_path: Path, x_NV: np.ndarray):
    spec = {"name": "mlp", "hidden": [10_000], "norm": "none"}
    run = make_run(tmp_path / "run", "vbm_roi", spec, {"mask": "none"}, head=None)
    assert predicted(export_openbhb(run, tmp_path / "out", table=TABLE), x_NV).shape == (5, 10_000)


def test_a_run_that_was_killed_or_mixed_up_is_refused(tmp_path: Path):
    for features in ("h", "z"):
        refused("there is no such file", tmp_path / "nothing", tmp_path / "out", features=features)
    run = make_run(tmp_path / "run")
    (run / "encoder.safetensors").unlink()
    refused("holds no encoder yet", run, tmp_path / "out")
    mixed = make_run(tmp_path / "mixed")
    other = make_run(tmp_path / "other", spec={**SMALL, "width": 8}, head=None)
    (mixed / "encoder.safetensors").write_bytes((other / "encoder.safetensors").read_bytes())
    with pytest.raises(StaleError):
        export_openbhb(mixed, tmp_path / "out", table=TABLE)


def test_a_folder_with_other_content_is_left_alone_and_an_earlier_submission_replaced(tmp_path: Path):
    run, out = make_run(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    first = export_openbhb(run, out, table=TABLE)
    before = (first / "estimator.py").read_bytes()
    export_openbhb(run, out, features="z", table=TABLE)
    assert (first / "estimator.py").read_bytes() != before
    (out / "notes.txt").write_text("mine")
    refused("holds something else already", run, out)
    (out / "notes.txt").unlink()
    (out / "estimator.py").write_text("# a submission by hand")
    refused("holds something else already", run, out)
    (tmp_path / "file").write_text("")
    refused("is a file", run, tmp_path / "file")


def test_a_network_that_would_differ_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = openbhb.estimator_source
    monkeypatch.setattr(
        openbhb, "estimator_source", lambda config: source(config).replace(".mean((2, 3, 4))", ".sum((2, 3, 4))")
    )
    refused("the rebuilt resnet18 differs from it by", make_run(tmp_path / "run"), tmp_path / "out")


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make_run(tmp_path / "run")
    earlier = export_openbhb(run, tmp_path / "out", table=TABLE)
    kept = (earlier / "weights.pth").read_bytes()

    def stopped(*arguments: Any, **options: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(openbhb.pickle, "dumps", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_openbhb(run, tmp_path / "out", features="z", table=TABLE)
    assert (earlier / "weights.pth").read_bytes() == kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "run"]
