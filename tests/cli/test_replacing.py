"""What a command writes replaces its own earlier outputs, and nothing else: no input, no file of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.encoders.file import read_card
from tests.cli.conftest import Told, left_in, one_sentence
from tests.experiments.study.conftest import write
from tests.report.checklists.study import change, study

Medssl = Callable[..., Told]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that nobody trained."""
    folder = study(tmp_path_factory.mktemp("studies") / "demo")
    change(folder / "run.json", hashes={"encoder": read_card(folder / "encoder.safetensors")["weights_sha256"]})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in left_in(folder)}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of the user's own, in which the command is started."""
    (tmp_path / "scan.nii.gz").write_bytes(b"\x1f\x8b voxels")
    (tmp_path / "manifest.csv").write_text("participant_id,image,age\np1,scan.nii.gz,30\n")
    (tmp_path / "page.html").write_text("<!DOCTYPE html>\n<html><head><title>Thesis</title></head></html>\n")
    (tmp_path / "README.md").write_text("# My project\n")
    (tmp_path / "encoder.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-o", "scan.nii.gz"], "a report is written as .html or .htm"),
        (["-o", "manifest.csv"], "a report is written as .html or .htm"),
        (["-o", "encoder.safetensors"], "a report is written as .html or .htm"),
        (["-o", "page.html"], "page.html exists and is not a report that medssl wrote, so it is kept; choose another"),
        (["--checklist", "claim", "-o", "manifest.csv"], "is not a checklist that medssl wrote"),
        (["--checklist", "tripod-ai", "-o", "page.html"], "is not a checklist that medssl wrote"),
        (["--checklist", "claim", "-o", "README.md"], "is not a checklist that medssl wrote"),
        (["--checklist", "claim", "-o", "scan.nii.gz"], "a checklist is written as .md, .html or .csv"),
        (["--model-card", "-o", "README.md"], "is not a model card that medssl wrote"),
        (["--model-card", "-o", "."], "is not a model card that medssl wrote"),
    ],
)
def test_a_report_replaces_no_file_of_another_kind(medssl: Medssl, run: Path, own: Path, options, says):
    before = contents(own)
    assert says in one_sentence(medssl("report", run, *options))
    assert contents(own) == before


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "a.html"],
        ["--checklist", "claim", "-o", "a.html"],
        ["--checklist", "tripod-ai", "-o", "a.md"],
        ["--checklist", "claim", "-o", "a.csv"],
        ["--model-card", "-o", "a.md"],
    ],
)
def test_a_report_replaces_its_own_earlier_output_and_an_empty_file(medssl: Medssl, run: Path, own: Path, options):
    Path(options[-1]).touch()
    for _ in range(2):
        status, _, err = medssl("report", run, *options)
        assert status == 0, err
    assert Path(options[-1]).stat().st_size > 1000


def test_no_kind_of_page_is_taken_for_another(medssl: Medssl, run: Path, own: Path):
    medssl("report", run, "-o", "report.html")
    medssl("report", run, "--checklist", "claim", "-o", "claim.html")
    assert "is not a checklist" in one_sentence(medssl("report", run, "--checklist", "claim", "-o", "report.html"))
    assert "is not a report" in one_sentence(medssl("report", run, "-o", "claim.html"))


@pytest.fixture
def table(own: Path) -> Path:
    """A features table of 90 people of six sites."""
    rng = np.random.default_rng(0)
    split = ["train"] * 50 + ["internal_test"] * 20 + ["external_test"] * 20
    sites = [f"s{k % 4}" for k in range(70)] + [f"s{4 + k % 2}" for k in range(20)]
    people = [f"p{k}" for k in range(90)]
    frame = pd.DataFrame({"participant_id": people, "age": rng.uniform(20, 80, 90), "site": sites, "split": split})
    for k in range(3):
        frame[f"f{k:04d}"] = rng.normal(size=90)
    frame.to_csv(own / "t.csv", index=False)
    return own / "t.csv"


QUICK = ("--resamples", 0, "--no-references", "--quiet")


def test_scores_replace_earlier_scores_and_no_table_of_that_name(medssl: Medssl, table: Path):
    for _ in range(2):
        status, _, err = medssl("score", table, "-o", "out", *QUICK)
        assert status == 0, err
    from medssl.challenge.table import refuse_foreign_board

    status, _, err = medssl("openbhb", "score", table, "-o", "out", *QUICK, "--quick")
    assert status == 0, err
    refuse_foreign_board(Path("out"), table)
    names = {"predictions.csv": "person,guess\np1,30\n", "scores.json": '{"mine": 1}', "openbhb.md": "# Notes\n"}
    for name, text in names.items():
        Path(name).write_text(text)
        command = ["openbhb", "score"] if name.startswith("openbhb") else ["score"]
        for place in ([], ["-o", "."]):
            said = one_sentence(medssl(*command, table, *place, *QUICK))
            assert f"{name} exists and is not a" in said
            assert "choose another place with -o" in said
        assert Path(name).read_text() == text
        Path(name).unlink()
    table.rename("predictions.csv")
    before = contents(table.parent)
    assert "is read by this command" in one_sentence(medssl("score", "predictions.csv", *QUICK))
    assert contents(table.parent) == before


def test_embed_replaces_no_manifest_and_no_table_of_another_kind(medssl: Medssl, run: Path, own: Path):
    (own / "other.csv").write_text("participant_id,volume\np1,30\n")
    before = contents(own)
    said = one_sentence(medssl("embed", run, "manifest.csv", "-o", "manifest.csv"))
    assert "manifest.csv is read by this command" in said
    said = one_sentence(medssl("embed", run, "manifest.csv", "-o", "other.csv"))
    assert "other.csv exists and is not a features table" in said
    assert contents(own) == before


def test_a_manifest_is_replaced_by_a_manifest_alone_whatever_is_said(medssl: Medssl, own: Path):
    scans = own / "scans" / "images"
    scans.mkdir(parents=True)
    (scans / "sub-01_T1w.nii.gz").write_bytes(b"\x1f\x8b voxels")
    (own / "scans" / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    (own / "notes.csv").write_text("volume\n30\n")
    before = contents(own)
    for out, says in (
        (scans / "sub-01_T1w.nii.gz", "a manifest is written as .csv or .tsv"),
        ("notes.csv", "is not a manifest that medssl wrote"),
        (own / "scans" / "participants.tsv", "is read by this command"),
    ):
        said = one_sentence(medssl("cohort", "scan", "scans", "-o", out, "--overwrite"))
        assert says in said
        assert contents(own) == before
    assert "is written as .csv or .tsv" in one_sentence(
        medssl("cohort", "split", "manifest.csv", "-o", "scan.nii.gz", "--overwrite")
    )
    for name in ("manifest.csv", "scan.nii.gz", "page.html"):
        said = one_sentence(medssl("cohort", "check", "manifest.csv", "--json", name))
        assert "a report of the check is written as .json" in said
    assert contents(own) == before


def test_the_script_of_an_array_replaces_earlier_scripts_alone(medssl: Medssl, own: Path):
    lines = "".join(f"p{k},{20 + k},s{k % 6},train,{k % 7}.5\n" for k in range(90))
    (own / "m.csv").write_text("participant_id,age,site,split,a_thickness\n" + lines)
    path = write(own / "d.yaml")
    (own / "mine.sh").write_text("#!/bin/bash\nrm -rf scratch\n")
    before = contents(own)
    for script, says in (
        ("d.yaml", "a script of a study is written as .sh"),
        ("mine.sh", "is not a script of a study"),
    ):
        said = one_sentence(medssl("study", "slurm", path, "--data", "m.csv", "-o", "out", "--script", script))
        assert says in said
        assert contents(own) == before
    for _ in range(2):
        status, out, _ = medssl("study", "slurm", path, "--data", "m.csv", "-o", "out", "--script", "a b;c.sh")
        assert (status, out) == (0, "sbatch 'a b;c.sh'\n")


def test_folders_of_studies_and_benchmarks_hold_no_files_of_others(medssl: Medssl, own: Path):
    lines = "".join(f"p{k},{20 + k},s{k % 6},train,{k % 7}.5\n" for k in range(90))
    (own / "m.csv").write_text("participant_id,age,site,split,a_thickness\n" + lines)
    write(own / "d.yaml")
    for name in ("study.md", "trials.csv", "best.yaml", "benchmark.md"):
        (own / name).write_text("mine\n")
        before = contents(own)
        command = ["study", "run", "d.yaml"] if name != "benchmark.md" else ["benchmark", "openbhb", "--preset", "roi"]
        said = one_sentence(medssl(*command, "--data", "m.csv", "-o", "."))
        assert f"{name} exists" in said
        assert "with -o" in said
        assert contents(own) == before
        (own / name).unlink()
