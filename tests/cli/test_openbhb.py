from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.challenge import openbhb
from medssl.evaluation import age as age_probe
from medssl.evaluation import site as site_probe
from medssl.features.table import FeatureTable
from tests.cli.conftest import Told, left_in, one_sentence

Medssl = Callable[..., Told]


@pytest.fixture(autouse=True)
def _one_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])


def frame(rows: int = 150, sites: int = 6, **columns: object) -> pd.DataFrame:
    """A foreign table: thickness columns, age and site, no split."""
    rng = np.random.default_rng(0)
    age = rng.uniform(8, 80, rows)
    values = rng.normal(size=(rows, 4)) + age[:, None] / 30
    meta = {
        "participant_id": [f"p{i}" for i in range(rows)],
        "age": age,
        "site": [f"s{i % sites}" for i in range(rows)],
    }
    table = pd.DataFrame({**meta, **{f"th_{k}": values[:, k] for k in range(4)}})
    return table.assign(**columns)


def written(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "thickness.csv"
    table.to_csv(path, index=False)
    return path


def test_a_foreign_table_is_scored_on_three_made_folds(medssl: Medssl, tmp_path: Path) -> None:
    path = written(tmp_path, frame())
    status, out, err = medssl("openbhb", "score", path, "--prefix", "th_", "--folds", 3, "--resamples", 20, "--quiet")
    assert (status, err) == (0, "")
    assert left_in(tmp_path) == ["openbhb.json", "openbhb.md", "thickness.csv"]
    assert (tmp_path / "openbhb.md").read_text().strip() == out.strip()
    record = json.loads((tmp_path / "openbhb.json").read_text())
    assert [fold["name"] for fold in record["folds"]] == ["fold0", "fold1", "fold2"]
    assert set(record["parts"]) == {"held_out"}
    assert "Chance BAcc: 0.2000" in out
    assert record["lines"]["features"]["leave_site_out"]["sites"] == 6


def test_made_folds_keep_families_and_the_board_says_so(medssl: Medssl, tmp_path: Path) -> None:
    kin = [k // 7 if k % 7 < 2 else np.nan for k in range(150)]  # relatives at neighbouring sites, numbers with gaps
    path = written(tmp_path, frame(sites=8, family=kin))
    arguments = ("--prefix", "th_", "--folds", 3, "--resamples", 20)
    status, out, err = medssl("openbhb", "score", path, *arguments)
    assert (status, err) == (0, "")
    assert "bootstrap samples of families" in out
    table = openbhb._with_folds(FeatureTable.read(path, prefix="th_"), 3, 0).meta
    for name in ("fold0", "fold1", "fold2"):
        used = table[table[name] != ""]
        assert (used.groupby("family")[name].nunique() == 1).all()
        assert (table[name] == "").any()  # relatives of external people are in no part


def test_quick_json_goes_to_another_folder_and_says_what_is_reduced(medssl: Medssl, tmp_path: Path) -> None:
    path = written(tmp_path, frame())
    arguments = ("--prefix", "th_", "--folds", 3, "--quick", "--json", "-o", tmp_path / "deep" / "out")
    status, out, _ = medssl("openbhb", "score", path, *arguments)
    assert status == 0
    record = json.loads(out)
    assert record["reduced"][0] == "1 of 3 folds"
    assert "--quick: no bootstrap intervals" in record["reduced"]
    assert len(record["folds"]) == 1
    assert left_in(tmp_path) == ["deep/out/openbhb.json", "deep/out/openbhb.md", "thickness.csv"]


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (frame(), [], "there are no columns fold0, fold1, fold2"),
        (frame(), ["--prefix", "vol_"], "has no feature column"),
        (frame(site=""), ["--folds", "3"], "name 0 sites, but a fold needs one site to leave out and two"),
        (frame(sites=2), ["--folds", "3"], "name 2 sites"),
        (frame(site="s0", split=["train", "test"] * 75), [], "name one site (s0)"),
        (frame(th_0=np.nan), ["--folds", "3"], "NaN or infinite"),
        (frame(rows=12), ["--folds", "3"], "cv=5"),
        (frame(fold0=["train", "internal_test", "external_test"] * 50), ["--folds", "3"], "has its own folds (fold0)"),
        (frame(age="old"), ["--folds", "3"], "0 training rows have an age"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    table: pd.DataFrame, options: list[str], words: str, medssl: Medssl, tmp_path: Path
) -> None:
    path = written(tmp_path, table)
    given = options if "--prefix" in options else [*options, "--prefix", "th_"]
    assert words in one_sentence(medssl("openbhb", "score", path, *given, "--quiet"))
    assert left_in(tmp_path) == ["thickness.csv"]


def test_an_output_that_is_a_file_is_refused_before_the_work(medssl: Medssl, tmp_path: Path) -> None:
    path = written(tmp_path, frame())
    told = medssl("openbhb", "score", path, "--prefix", "th_", "--folds", 3, "-o", path)
    assert "is a file; give a folder" in one_sentence(told)


def test_rows_without_an_id_are_taken_as_so_many_people(medssl: Medssl, tmp_path: Path) -> None:
    path = written(tmp_path, frame().drop(columns="participant_id"))
    status, out, _ = medssl("openbhb", "score", path, "--prefix", "th_", "--folds", 3, "--quick")
    assert status == 0
    assert "150 rows have no participant_id; each is taken as another person" in out


def test_a_missing_table_and_a_folder_without_a_run_are_named(medssl: Medssl, tmp_path: Path) -> None:
    assert "does not exist" in one_sentence(medssl("openbhb", "score", tmp_path / "nowhere.csv"))
    assert "holds no encoder yet" in one_sentence(medssl("openbhb", "score", tmp_path))
    assert "leave out --prefix" in one_sentence(medssl("openbhb", "score", tmp_path, "--prefix", "th_"))
    assert left_in(tmp_path) == []


def test_h_and_z_of_a_run_are_two_rows_of_one_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = FeatureTable.from_frame(frame().assign(split=["train"] * 120 + ["test"] * 30), prefix="th_")
    z = FeatureTable(table.meta, table.values[:, :2])
    monkeypatch.setattr(openbhb, "embed", lambda run, projection=False, progress=True: z if projection else table)
    options = {"quick": True, "progress": False}
    without = openbhb.score_openbhb(tmp_path, **options)  # type: ignore[arg-type]
    assert without.scored == ("encoder h",)
    (tmp_path / "projection.safetensors").touch()
    both = openbhb.score_openbhb(tmp_path, **options)  # type: ignore[arg-type]
    assert both.scored == ("encoder h", "projection z")
    assert (both.lines["encoder h"]["width"], both.lines["projection z"]["width"]) == (4, 2)
    assert both.lines["encoder h"] == without.lines["encoder h"]
    assert "| projection z |" in (tmp_path / "openbhb.md").read_text()


def test_folds_are_made_from_train_rows_only_and_the_split_is_scored_beside_them(tmp_path: Path) -> None:
    split = ["train"] * 120 + ["internal_test"] * 20 + ["external_test"] * 10
    site = np.where(np.array(split) == "external_test", "elsewhere", frame()["site"])
    path = written(tmp_path, frame(split=split, site=site))
    found = openbhb.score_openbhb(
        path, folds=2, prefix="th_", resamples=0, every_site=False, references=False, progress=False
    )
    assert found.parts == ["test", "held_out"]
    for fold in found.folds:
        counts = fold["n"]["held_out"]
        assert counts["train"] + counts["internal_test"] + counts["external_test"] == 120
        assert (fold["n"]["test"]["internal_test"], fold["n"]["test"]["external_test"]) == (20, 10)


@pytest.mark.slow
def test_real_thickness_is_scored_beside_the_constant_row(real_data: Path, tmp_path: Path) -> None:
    table = pd.read_csv(real_data / "roi" / "fcon1000.csv")
    keep = [c for c in table.columns if c in ("participant_id", "age", "site") or c.endswith("_thickness")]
    table = table[keep].rename(columns=lambda c: f"th_{c}" if c.endswith("_thickness") else c)
    found = openbhb.score_openbhb(
        written(tmp_path, table), folds=3, prefix="th_", resamples=0, every_site=False, progress=False
    )
    features, constant = found.lines["features"]["held_out"]["mean"], found.lines["constant"]["held_out"]["mean"]
    assert features["mae_internal"] < constant["mae_internal"]
    assert features["site_bacc"] > 0.5
    assert features["challenge"] > constant["challenge"]  # raw thickness says the scanner louder than the age


def test_a_run_on_a_table_without_splits_is_refused_before_features_are_written(medssl: Medssl, tmp_path: Path) -> None:
    run = tmp_path / "run"
    table = written(tmp_path, frame())
    options = [
        'data.columns=["th_*"]',
        f"data.manifest={table}",
        f"output={run}",
        "trainer.epochs=1",
        "monitors.every=0",
    ]
    medssl("pretrain", "exponential_roi", *options, "trainer.accelerator=cpu", "--quiet")
    before = left_in(run)
    assert "no row has a split" in one_sentence(medssl("openbhb", "score", run))
    assert left_in(run) == before
