"""What commands say of labels that are not as one would wish: nothing is scored or trained on without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.features.table import FeatureTable
from tests.cli.conftest import Told, left_in, one_sentence

Command = Callable[..., Told]


def features(path: Path, factor: float = 1.0, **ages: float) -> Path:
    """A table of features that know the age of 120 people from six sites; some ages are changed."""
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 120).round(1)
    values = np.outer(age / 20, [1.0, 0.5]) + 0.1 * rng.normal(size=(120, 2))
    cells = (age * factor).round(1)
    for row, other in ages.items():
        cells[int(row.removeprefix("row"))] = other
    split = np.where(np.arange(120) % 6 == 5, "external_test", np.where(np.arange(120) < 80, "train", "internal_test"))
    meta = pd.DataFrame(
        {"participant_id": [f"p{k:03d}" for k in range(120)], "site": [f"s{k % 6}" for k in range(120)]}
    )
    table = FeatureTable(meta.assign(split=split), values)
    table.write(path)
    text = pd.read_csv(path, dtype=str, keep_default_na=False).assign(age=[f"{v:g}" for v in cells])
    text.to_csv(path, index=False)
    path.with_name(f"{path.name}.json").unlink()
    return path


def manifest(path: Path, *rows: str) -> Path:
    path.write_text("participant_id,image,age,site\n" + "".join(f"{row}\n" for row in rows))
    return path


@pytest.mark.oddity("age-code")
def test_score_does_not_score_a_code_as_an_age_and_says_so(medssl: Command, tmp_path: Path):
    table = features(tmp_path / "features.csv", row3=-9999.0, row101=-9999.0)
    status, out, err = medssl("score", table, "--resamples", "0", "--no-references")
    assert status == 0, err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["mae_external"] < 5
    assert "2 ages of features.csv were left empty, being codes of missing values: -9999" in scores["notes"]
    assert "codes of missing values: -9999" in out


@pytest.mark.oddity("age-unit-in-use")
@pytest.mark.parametrize("command", [("score",), ("openbhb", "score")])
def test_scores_of_ages_in_months_are_refused_and_nothing_is_written(medssl: Command, tmp_path: Path, command):
    table = features(tmp_path / "features.csv", 12)
    said = one_sentence(medssl(*command, table))
    assert "look like months, but ages are read as years; divide them by 12 in the table" in said
    assert left_in(tmp_path) == ["features.csv"]


@pytest.mark.oddity("age-impossible-in-use")
def test_the_challenges_scores_leave_an_impossible_age_out_and_say_so(medssl: Command, tmp_path: Path):
    table = features(tmp_path / "features.csv", row3=-3.0, row5=-9999.0)
    status, _, err = medssl("openbhb", "score", table, "--resamples", "0", "-o", tmp_path / "out")
    assert status == 0, err
    (path,) = (tmp_path / "out").rglob("openbhb.json")
    notes = " | ".join(json.loads(path.read_text())["notes"])
    assert "age -3 of row 5 (p003) is not between 0 and 120 years" in notes
    assert "1 age of features.csv was left empty, being codes of missing values: -9999" in notes


@pytest.mark.oddity("words-for-missing")
def test_cohort_split_says_what_was_read_as_missing(medssl: Command, tmp_path: Path):
    rows = [f"p{k},p{k}.nii,{20 + k},s{k % 4}" for k in range(20)]
    path = manifest(tmp_path / "m.csv", "x,x.nii,35Y,-9", *rows)
    status, out, _ = medssl("cohort", "split", path, "-o", tmp_path / "split.csv")
    assert status == 0
    assert out.count('note: 1 cell of m.csv was read as missing: site "-9" (1)') == 1
    assert "note: 1 age of m.csv was read by the unit in the cell: 35Y" in out


@pytest.mark.oddity("words-for-missing")
def test_cohort_check_lists_what_was_read_as_missing_with_its_number(medssl: Command, tmp_path: Path):
    path = manifest(tmp_path / "m.csv", "a,a.nii,unknown,-", "b,b.nii,18-38,A", "c,c.nii,89+,A")
    _, _, _ = medssl("cohort", "check", path, "--quiet", "--json", tmp_path / "check.json")
    found = json.loads((tmp_path / "check.json").read_text())["findings"]
    texts = {f["code"]: f["text"] for f in found if f["level"] == "info"}
    assert texts["read-as-missing"] == '2 cells of m.csv were read as missing: age "unknown" (1), site "-" (1)'
    assert [f["text"] for f in found if f["code"] == "age-read"] == [
        "1 age of m.csv was capped and read as the cap: 89+",
        "1 age of m.csv was left empty, being ranges or no numbers: 18-38",
    ]


@pytest.mark.oddity("age-unit-sidecar")
def test_cohort_scan_converts_months_and_reads_levels_and_says_both(medssl: Command, tmp_path: Path):
    root = tmp_path / "bids"
    for k in (1, 2):
        (root / f"sub-{k}" / "anat").mkdir(parents=True)
        (root / f"sub-{k}" / "anat" / f"sub-{k}_T1w.nii.gz").write_bytes(b"x")
    (root / "participants.tsv").write_text("participant_id\tage_at_scan\tsex\nsub-1\t120\t0\nsub-2\t246\t1\n")
    sidecar = {"age_at_scan": {"Units": "months"}, "sex": {"Levels": {"0": "female", "1": {"Description": "male"}}}}
    (root / "participants.json").write_text(json.dumps(sidecar))
    status, out, err = medssl("cohort", "scan", root, "-o", tmp_path / "m.csv")
    assert status == 0, err
    table = pd.read_csv(tmp_path / "m.csv")
    assert table["age"].tolist() == [10.0, 20.5]
    assert table["sex"].tolist() == ["F", "M"]
    assert "age of participants.tsv is in months, as participants.json says, and was converted to years" in out
