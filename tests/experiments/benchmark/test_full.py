"""The recipe of the published rows: full-size encoders, and two optimiser steps on a small copy of OpenBHB's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from medssl.data.sources.openbhb import scan_openbhb
from medssl.data.sources.tables import write_manifest
from medssl.data.volumes.openbhb_layout import OPENBHB, reading_as
from medssl.encoders import build_encoder
from medssl.errors import UserError
from medssl.experiments.benchmark.folds import fold_manifests
from medssl.experiments.benchmark.preset import Preset, cells, load_preset
from medssl.experiments.benchmark.run import benchmark
from medssl.recipe.model import load_recipe
from tests.data.sources import openbhb_lookalike as fake

SMALL = (
    "data.workers=0",
    "data.batch_size=15",
    "trainer.epochs=1",
    "trainer.accelerator=cpu",
    "encoder.width=4",
    "method.projector=[8, 4]",
)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A manifest of the arrays of 30 training, 9 internal and 6 external rows, as `medssl cohort scan` makes it."""
    for name, count in {"TRAIN": 30, "INTERNAL": 9, "EXTERNAL": 6}.items():
        monkeypatch.setattr(fake, name, count)
    monkeypatch.setattr(fake, "folds", lambda: {})
    fake.write_arrays(tmp_path / "openbhb")
    (tmp_path / "openbhb" / "cv_splits_indices.json").unlink()
    with reading_as(fake.SMALL):
        write_manifest(scan_openbhb(tmp_path / "openbhb", "vbm"), tmp_path / "vbm.csv")
        yield tmp_path / "vbm.csv"


def written(path: Path, preset: Preset, **changes: object) -> str:
    content = preset.model_copy(update=changes).model_dump(mode="json")
    content["quick"] = {"rows": [], "encoders": [], "designs": []}
    path.write_text(json.dumps(content))
    return str(path)


def test_the_recipe_is_that_of_the_paper():
    preset = load_preset("full")
    recipe = load_recipe(preset.recipe, preset.overrides("L_exp", "resnet18"))
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.weight_decay) == ("adam", 1e-4, 5e-5)
    assert (recipe.optim.schedule, recipe.optim.gamma, recipe.optim.every_epochs) == ("step", 0.9, 10)
    assert (recipe.trainer.epochs, recipe.trainer.clip, recipe.data.batch_size) == (300, None, 32)
    assert recipe.method.arguments["kernels"] == {"age": {"kernel": "rbf", "bandwidth": 2.0}}
    assert recipe.method.arguments["temperature"] == 0.1
    assert recipe.views.policy == "none"
    miccai = load_recipe(preset.recipe, preset.overrides("y-aware (MICCAI 2021)", "densenet121"))
    assert (miccai.data.batch_size, miccai.trainer.epochs, miccai.views.policy) == (64, 100, "yaware")
    assert miccai.method.arguments["kernels"]["age"]["bandwidth"] == 5.0
    assert preset.seeds >= 3


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("densenet121", 1024), ("alexnet3d", 128)])
def test_encoders_have_their_published_width_on_a_whole_vbm_volume(name: str, width: int):
    preset = load_preset("full")
    recipe = load_recipe(preset.recipe, preset.overrides("L_exp", name))
    channels, *shape = OPENBHB.block("vbm").shape
    encoder = build_encoder(recipe.encoder.name, in_channels=channels, shape=shape, **recipe.encoder.arguments)
    assert encoder.dim == width
    assert recipe.method.arguments["projector"] == [width, 128]


def test_two_steps_on_the_layout_of_openbhb(manifest: Path, tmp_path: Path):
    preset = load_preset("full")
    small = written(
        tmp_path / "small.yaml",
        preset,
        encoders={"resnet18": ("encoder={name: resnet18, depth: [1, 1], norm: group, stem: small}", *SMALL)},
        only={},
        rows={k: preset.rows[k] for k in ("l1", "L_thr (isbi_code)", "L_exp")},
        regularised=("L_exp",),
        harmonized=("L_exp",),
        seeds=1,
    )
    record = benchmark(small, tmp_path / "out", data=manifest, progress=False)
    lines = {(line["row"], line["features"]): line for line in record["lines"]}
    for row in ("l1", "L_thr (isbi_code)", "L_exp", "L_exp + FairKL"):
        assert lines[row, "h"]["n"] == 1
        assert lines[row, "h"]["mae_external"]["mean"] > 0
    assert lines["L_exp", "z, ComBat"]["challenge"]["mean"] > 0
    assert lines["constant", ""]["site_bacc"]["mean"] == pytest.approx(1 / 3)
    run = tmp_path / "out" / "cells" / "split0-resnet18-l-exp-seed0" / "run"
    assert pd.read_csv(run / "logs" / "probe.csv")["step"].tolist() == [2]


@pytest.mark.parametrize("name", ["densenet121", "alexnet3d"])
def test_the_other_encoders_take_two_steps_too(name: str, manifest: Path, tmp_path: Path):
    preset = load_preset("full")
    tiny = {
        "densenet121": "encoder={name: densenet121, growth: 4, depth: [1, 1], norm: group, stem: small}",
        "alexnet3d": "encoder={name: alexnet3d, norm: group}",
    }

    small = written(
        tmp_path / "small.yaml",
        preset,
        encoders={name: (tiny[name], "data.preprocessing.shape=[18, 18, 18]", *SMALL)},
        only={},
        rows={"L_exp": ()},
        regularised=(),
        harmonized=(),
        seeds=1,
    )
    record = benchmark(small, tmp_path / "out", data=manifest, progress=False)
    assert [line["n"] for line in record["lines"] if line["row"] == "L_exp" and line["features"] == "z"] == [1]


def test_the_folds_of_the_manifest_are_a_design(manifest: Path, tmp_path: Path):
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    for k in range(2):
        inner = (["train"] * 4 + [f"{('in', 'ex')[i % 2]}ternal_test" for i in range(1)]) * 6
        table[f"fold{k}"] = [*inner[k:], *inner[:k], *[""] * 15]
    table.to_csv(manifest, index=False)
    preset = load_preset("full")
    made = fold_manifests(manifest, preset.model_copy(update={"designs": {"folds": 2}}), tmp_path / "b")
    assert sorted(made) == [("folds", 0), ("folds", 1)]
    first = pd.read_csv(made["folds", 0], dtype=str, keep_default_na=False)
    assert (first["split"] == table["fold0"]).all()
    with pytest.raises(UserError, match="has no fold2"):
        fold_manifests(manifest, preset.model_copy(update={"designs": {"folds": 3}}), tmp_path / "c")


def test_the_plan_is_as_large_as_its_stated_cost():
    preset = load_preset("full")
    assert len(list(cells(preset))) == 78
    assert len(list(cells(preset.reduced()))) == 5
    with pytest.raises(UserError, match="needs --data"):
        benchmark("full", "unused", progress=False)
