from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.evaluation.age import fit_age
from medssl.evaluation.rows import read_rows
from medssl.experiments.benchmark.cell import age_direction, run_cell, score_matrix
from medssl.experiments.benchmark.folds import fold_manifests
from medssl.experiments.benchmark.preset import Cell, Preset, load_preset
from medssl.experiments.benchmark.run import benchmark, plan_of
from medssl.features.table import FeatureTable

from .test_folds import measures

CHANGES = ("data.columns=['*_thickness']", "trainer.epochs=2", "data.batch_size=16", "encoder.hidden=[8, 4]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Preset, Path]:
    out = tmp_path_factory.mktemp("benchmark")
    preset = load_preset("roi").model_copy(update={"designs": {"challenge": 1}, "changes": CHANGES})
    return out, preset, fold_manifests(measures(out / "t.csv"), preset, out)["challenge", 0]


def test_a_cell_is_the_score_of_its_run_and_is_kept(made: tuple[Path, Preset, Path]):
    out, preset, manifest = made
    cell = Cell("L_exp", "mlp", "challenge", 0, 0)
    result = run_cell(cell, preset, manifest, out, beside="all")
    assert set(result["scores"]) == {
        "h", "h, ComBat", "h, residuals", "h, 1 number", "z", "z, ComBat", "z, residuals",
        "constant", "age oracle", "site median", "untrained",
        "raw input", "raw input, ComBat", "raw input, residuals", "raw input, 1 number",
    }  # fmt: skip
    run = out / "cells" / cell.name / "run"
    table = FeatureTable.read(run / "features.csv")
    rows = read_rows(table.meta, unseen_scored=True)
    assert result["scores"]["h"] == pytest.approx(score_matrix(rows, table.values))
    constant = result["scores"]["constant"]
    assert constant["mae_external"] == pytest.approx(
        np.abs(rows.age[rows.external] - rows.age[rows.train].mean()).mean()
    )
    assert constant["site_bacc"] == pytest.approx(1 / len(set(rows.site[rows.internal])))
    assert not (run / "checkpoints").exists()
    record = out / "cells" / cell.name / "cell.json"
    before = record.stat().st_mtime_ns
    assert run_cell(cell, preset, manifest, out, beside="all") == json.loads(record.read_text())
    assert record.stat().st_mtime_ns == before


def test_one_number_is_the_age_of_a_ridge_that_no_test_row_shapes(made: tuple[Path, Preset, Path]):
    meta = pd.read_csv(made[2], dtype=str, keep_default_na=False)
    rows = read_rows(meta, unseen_scored=True)
    values = np.random.default_rng(0).normal(size=(len(meta), 5)) + rows.age[:, None] / 20
    one = age_direction(rows, values)
    assert one.shape == (len(meta), 1)
    assert one[rows.train, 0] == pytest.approx(
        fit_age(values[rows.train], rows.age[rows.train]).predict(values[rows.train])
    )
    other = np.where(rows.train[:, None], values, 7.0)
    assert (age_direction(rows, other)[rows.train] == one[rows.train]).all()


def test_references_are_scored_once_for_a_fold_and_untrained_encoders_once_for_a_seed():
    preset = load_preset("roi")
    few = preset.model_copy(update={"rows": {"l1": (), "L_exp": ()}, "encoders": {"a": (), "b": ()}, "regularised": ()})
    plan = plan_of(few.model_copy(update={"designs": {"challenge": 2}, "seeds": 2}))
    assert len(plan) == 16
    assert [(c.fold, c.encoder, c.row) for c, beside in plan if beside == "all"] == [(0, "a", "l1"), (1, "a", "l1")]
    own = {(c.fold, c.encoder, c.seed) for c, beside in plan if beside != "none"}
    assert len(own) == sum(beside != "none" for _, beside in plan) == 8
    assert {c.row for c, beside in plan if beside == "untrained"} == {"l1"}


def test_a_cell_of_a_changed_recipe_is_trained_anew(made: tuple[Path, Preset, Path]):
    out, preset, manifest = made
    cell = Cell("SimCLR", "mlp", "challenge", 0, 1)
    first = run_cell(cell, preset, manifest, out, beside="none")
    other = preset.model_copy(update={"changes": (*CHANGES, "optim.lr=1e-4")})
    second = run_cell(cell, other, manifest, out, beside="none")
    assert first["key"]["recipe"] != second["key"]["recipe"]
    assert first["scores"]["h"] != second["scores"]["h"]


def test_a_cell_whose_record_is_damaged_is_named(made: tuple[Path, Preset, Path]):
    out, preset, manifest = made
    cell = Cell("SimCLR", "mlp", "challenge", 0, 1)
    first = run_cell(cell, preset, manifest, out, beside="none")
    record = out / "cells" / cell.name / "cell.json"
    for content in ('{"row":', "[1]", ""):
        record.write_text(content)
        with pytest.raises(
            UserError, match=r"cell\.json is (damaged|a list).* delete it, and its cell is scored again"
        ):
            run_cell(cell, preset, manifest, out, beside="none")
    record.unlink()
    assert run_cell(cell, preset, manifest, out, beside="none")["scores"] == first["scores"]


def test_the_whole_flow_writes_table_figure_and_record(tmp_path: Path):
    preset = load_preset("roi").model_copy(
        update={
            "designs": {"challenge": 1},
            "changes": CHANGES,
            "rows": {"l1": ("method={name: l1_age}",), "L_exp": ()},
            "regularised": (),
            "harmonized": (),
            "design_seeds": {},
            "seeds": 1,
        }
    )
    (tmp_path / "mine.yaml").write_text(json.dumps(preset.model_dump(mode="json") | {"quick": {
        "rows": ["l1"], "encoders": ["mlp"], "designs": ["challenge"]}}))  # fmt: skip
    source = measures(tmp_path / "t.csv")
    record = benchmark(str(tmp_path / "mine.yaml"), tmp_path / "out", data=source, jobs=1, progress=False)
    assert {line["row"] for line in record["lines"]} >= {"l1", "L_exp", "constant", "age oracle", "raw input"}
    assert (tmp_path / "out" / "benchmark.md").read_text() == record["markdown"]
    assert (tmp_path / "out" / "benchmark-challenge.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text())["lines"] == record["lines"]


def test_a_preset_that_needs_a_table_says_so(tmp_path: Path):
    with pytest.raises(UserError, match="needs --data"):
        benchmark("roi", tmp_path / "out", progress=False)
    with pytest.raises(UserError, match="leave out --data"):
        benchmark("synthetic", tmp_path / "out", data=tmp_path / "t.csv", progress=False)
