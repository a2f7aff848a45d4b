from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medssl.cli.cohort import app
from medssl.errors import ManifestError, UserError


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Twelve small scans at three sites."""
    root = tmp_path / "bids"
    lines = ["participant_id\tage\tsex\tsite\tname"]
    for k in range(12):
        path = root / f"sub-{k:02d}" / "anat" / f"sub-{k:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        data = np.random.default_rng(k).integers(1, 200, (6, 7, 5)).astype(np.int16)
        nib.save(nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0])), path)
        lines.append(f"{k:02d}\t{20 + 5 * (k // 3)}\t{'12'[k % 2]}\t{'ABC'[k % 3]}\tAda")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    return root


def medssl(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result


@pytest.fixture
def manifest(bids: Path, tmp_path: Path) -> Path:
    medssl("scan", bids, "-o", tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_scan_writes_a_manifest_and_says_what_it_did(bids, tmp_path):
    result = medssl("scan", bids, "-o", tmp_path / "m.csv", "--dataset", "toy")
    assert "12 scans of 12 participants" in result.output
    assert "left out for privacy: column name" in result.output
    assert "1 = male, 2 = female" in result.output
    table = pd.read_csv(tmp_path / "m.csv", dtype=str)
    assert list(table.columns) == ["participant_id", "image", "age", "sex", "site", "dataset"]
    assert table["image"][0] == "bids/sub-00/anat/sub-00_T1w.nii.gz"
    assert set(table["dataset"]) == {"toy"}


def test_without_ages_a_split_names_a_method_that_needs_none(manifest, tmp_path):
    assert "next: medssl pretrain exponential " in medssl("split", manifest, "-o", tmp_path / "aged.csv").output
    pd.read_csv(manifest, dtype=str).drop(columns="age").to_csv(tmp_path / "bare.csv", index=False)
    told = medssl("split", tmp_path / "bare.csv", "-o", tmp_path / "s.csv").output
    assert "note: no row has an age" in told
    assert "next: medssl pretrain simclr " in told


def test_scan_reads_a_table_with_other_words(bids, tmp_path):
    (tmp_path / "pheno.csv").write_text("ID,AGE_Y,gender\nsub-00,33,0\nsub-01,44,1\n")
    words = ["--column", "participant_id=ID", "--column", "age=AGE_Y", "--sex", "0=F", "--sex", "1=M"]
    medssl("scan", bids, "-o", tmp_path / "m.csv", "--table", tmp_path / "pheno.csv", *words)
    table = pd.read_csv(tmp_path / "m.csv")
    assert table["age"].tolist()[:2] == [33, 44]
    assert table["sex"].tolist()[:2] == ["F", "M"]


def test_scan_of_several_folders_keeps_their_people_apart(bids, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(bids, other)
    result = medssl("scan", bids, other, "-o", tmp_path / "m.csv")
    assert "24 scans of 24 participants" in result.output
    table = pd.read_csv(tmp_path / "m.csv")
    assert sorted(set(table["dataset"])) == ["bids", "other"]
    refused = medssl("scan", bids, other, "-o", tmp_path / "n.csv", "--dataset", "all", status=1).exception
    assert "would make one person of sub-00 in different data sets (bids, other)" in str(refused)
    assert not (tmp_path / "n.csv").exists()
    refused = medssl("scan", bids, other, "--layout", "openbhb", status=2).output
    assert "OpenBHB is one folder" in " ".join(refused.split())


def test_scan_names_sessions_echoes_and_words_that_are_names(tmp_path):
    root = tmp_path / "visits"
    for visit in ("A", "B"):
        for echo in (1, 2):
            path = root / f"sub-01/ses-{visit}/anat/sub-01_ses-{visit}_echo-{echo}_T1w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    lines = ["participant_id\tsession\tage\tsite\tgroup", "sub-01\t1\t70\tNA\tnone", "sub-01\t2\t72\tNA\tb"]
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "m.csv"
    refused = str(medssl("scan", root, "-o", out, status=1).exception)
    assert "(1, 2) meets one in the folder (ses-A, ses-B)" in refused
    assert not out.exists()
    named = ["--session", "1=ses-A", "--session", "2=ses-B", "--keep", "site=NA", "--keep", "group=none", "--echo", "2"]
    assert "written as site-NA" in medssl("scan", root, "-o", out, *named).output
    table = pd.read_csv(out, dtype=str)
    assert table["age"].astype(float).tolist() == [70.0, 72.0]
    assert table["site"].tolist() == ["site-NA", "site-NA"]
    assert table["group"].tolist() == ["group-none", "b"]
    assert all("_echo-2_" in image for image in table["image"])
    nobody = medssl("scan", root, "-o", tmp_path / "n.csv", "--session", "none=A", "--session", "none=B")
    assert "2 visits without a row" in nobody.output


@pytest.mark.parametrize("wrong", [["--column", "age"], ["--sex", "1=male"], ["--session", "1"], ["--keep", "site"]])
def test_scan_refuses_options_that_are_no_pairs(bids, wrong):
    result = medssl("scan", bids, *wrong, status=2)
    assert wrong[0] in result.output


def test_check_of_a_good_manifest_ends_with_status_0(manifest, tmp_path):
    result = medssl("check", manifest, "--json", tmp_path / "check.json")
    assert "nothing would break a training" in result.output
    assert "mostly 6 x 7 x 5 voxels of 4 x 4 x 4 mm, RAS" in result.output
    assert json.loads((tmp_path / "check.json").read_text())["ok"] is True


def test_check_of_a_broken_manifest_ends_with_status_1_and_names_file_and_row(manifest, bids, tmp_path):
    (bids / "sub-03" / "anat" / "sub-03_T1w.nii.gz").write_bytes(b"")
    result = medssl("check", manifest, "--json", tmp_path / "check.json", status=1)
    words = " ".join(result.output.split())
    assert "the errors would break a training" in words
    assert "manifest.csv row 5 (sub-03): sub-03_T1w.nii.gz is empty" in words
    finding = json.loads((tmp_path / "check.json").read_text())["findings"][0]
    assert (finding["level"], finding["code"], finding["row"]) == ("error", "empty", 5)


def test_check_prints_the_first_findings_of_a_kind_or_all(manifest, bids):
    for path in bids.glob("sub-*/anat/*"):
        path.unlink()
    few, everything = medssl("check", manifest, status=1), medssl("check", manifest, "--all", status=1)
    few, everything = (" ".join(shown.output.split()) for shown in (few, everything))  # lines wrap at any blank
    assert few.count("does not exist") == 3
    assert "and 9 more (--all shows them)" in few
    assert everything.count("does not exist") == 12


def test_user_errors_reach_the_entry_point(tmp_path):
    for arguments, kind in (
        (["check", tmp_path / "absent.csv"], ManifestError),
        (["scan", tmp_path], UserError),
    ):
        assert isinstance(medssl(*arguments, status=1).exception, kind)


def test_split_keeps_the_manifest_and_fills_split(manifest, tmp_path):
    result = medssl("split", manifest, "-o", tmp_path / "out" / "split.csv", "--external-sites", "C")
    before, after = pd.read_csv(manifest, dtype=str), pd.read_csv(tmp_path / "out" / "split.csv", dtype=str)
    assert set(after["split"][after["site"] == "C"]) == {"external_test"}
    assert set(after["split"][after["site"] != "C"]) == {"train", "internal_test"}
    assert after.drop(columns=["split", "image"]).equals(before.drop(columns="image"))
    assert (tmp_path / "out" / after["image"][0]).exists()
    assert "external_test: 4 scans, 4 subjects; sites: C" in result.output


def test_split_is_drawn_by_its_seed(manifest, tmp_path):
    def drawn(seed: int) -> str:
        medssl("split", manifest, "-o", tmp_path / "s.csv", "--seed", seed, "--internal-fraction", 0.5, "--overwrite")
        return (tmp_path / "s.csv").read_text()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_cache_is_filled_once_and_pruned(manifest, tmp_path):
    store = ["--cache", tmp_path / "cache", "--quiet"]
    assert "12 entries built, 0 were there" in medssl("cache", manifest, "--shape", "6,7,5", *store).output
    assert "0 entries built, 12 were there" in medssl("cache", manifest, "--shape", "6,7,5", *store).output
    entry = next((tmp_path / "cache").glob("*/*.npy"))
    good = entry.read_bytes()
    entry.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    mended = medssl("cache", manifest, "--shape", "6,7,5", "--verify", *store).output
    assert f"{entry} had changed bytes (wrong checksum) and is built again\n1 damaged entries found" in mended
    assert "1 entries built, 11 were there" in mended
    assert entry.read_bytes() == good
    result = medssl("cache", manifest, "--shape", 8, "--prune", *store)
    assert "12 other entries deleted" in result.output
    assert "the cache holds 12 entries" in result.output


def test_cache_says_what_was_read_otherwise_than_it_stands_there(manifest, tmp_path):
    manifest.write_bytes(manifest.read_bytes().replace(b"\n", b"\n\xe4", 2))
    result = medssl("cache", manifest, "--shape", "6,7,5", "--cache", tmp_path / "cache", "--quiet")
    assert result.exit_code == 0
    assert f"note: {manifest.name} was read as" in result.output


@pytest.mark.parametrize("wrong", [["--spacing", "two"], ["--shape", "4,5"], ["--shape", "4.5"], ["--spacing", "-1"]])
def test_cache_refuses_impossible_sizes(manifest, wrong):
    assert "must be one or three positive numbers" in " ".join(
        medssl("cache", manifest, *wrong, status=2).output.replace("│", " ").split()
    )


def test_synth_passes_its_options_on(tmp_path, monkeypatch):
    seen: dict[str, Any] = {}

    def synthesize(out: Path, **options: Any) -> Path:
        seen.update(options, out=out)
        return out / "manifest.csv"

    monkeypatch.setattr("medssl.data.synthetic.cohort.synthesize", synthesize)
    options = ["--subjects", 15, "--sites", 3, "--seed", 7, "--spacing", 8, "--confounding", 0.5]
    fractions = [
        "--external-fraction",
        0.3,
        "--internal-fraction",
        0.1,
        "--workers",
        1,
        "--overwrite",
        "--quiet",
    ]
    assert "manifest.csv" in medssl("synth", tmp_path / "toy", *options, *fractions).output
    assert seen == {
        "out": tmp_path / "toy",
        "subjects": 15,
        "sites": 3,
        "seed": 7,
        "spacing": 8.0,
        "confounding": 0.5,
        "external_fraction": 0.3,
        "internal_fraction": 0.1,
        "overwrite": True,
        "progress": False,
        "workers": 1,
    }


@pytest.mark.oddity("nan-background")
def test_a_nan_background_is_cached_with_the_option_and_named_by_check_without_it(manifest, tmp_path):
    path = Path(pd.read_csv(manifest)["image"].iloc[2])
    path = path if path.is_absolute() else manifest.parent / path
    data = np.random.default_rng(0).integers(0, 3, (6, 7, 5)).astype(np.float32)
    data[data == 0] = np.nan
    nib.save(nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0])), path)
    said = " ".join(medssl("check", manifest, "--quiet", status=1).output.split())
    assert "set preprocessing.nan: zero" in said
    store = ["--cache", tmp_path / "cache", "--quiet"]
    failed = medssl("cache", manifest, *store, status=1)
    assert isinstance(failed.exception, UserError)
    assert "set preprocessing.nan: zero" in str(failed.exception)
    assert "12 entries built, 0 were there" in medssl("cache", manifest, "--nan", "zero", *store).output
    with pytest.raises(UserError, match="did you mean 'zero'"):
        raise medssl("cache", manifest, "--nan", "zeros", *store, status=1).exception


@pytest.mark.parametrize("command", ["scan", "check", "synth", "split", "cache"])
def test_every_command_has_help_with_an_example(command):
    output = medssl(command, "--help").output
    assert f"\n    medssl cohort {command} " in output


def test_importing_the_commands_imports_nothing_heavy():
    heavy = "('numpy', 'pandas', 'rich.table', 'torch')"
    code = f"import sys, medssl.cli.cohort; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_split_knows_columns_in_any_case_and_refuses_a_folder(manifest, tmp_path):
    head, rest = manifest.read_text().split("\n", 1)
    (tmp_path / "b.csv").write_text(f"{head.title()}\n{rest}")
    medssl("split", tmp_path / "b.csv", "-o", tmp_path / "split.csv")
    table = pd.read_csv(tmp_path / "split.csv")
    assert {"participant_id", "age", "site", "split"} <= set(table.columns)
    assert len(table) == 12
    refused = medssl("split", manifest, "-o", tmp_path, status=1).exception
    assert isinstance(refused, UserError)
    assert str(refused) == f"{tmp_path} is a folder; give a file name"


def test_a_manifest_that_is_there_is_replaced_only_when_told(manifest, tmp_path):
    kept = manifest.read_text()
    for command in (["split", manifest, "-o", manifest], ["scan", tmp_path, "-o", manifest]):
        refused = medssl(*command, status=2).output
        assert "--overwrite" in " ".join(refused.replace("│", " ").split())
        assert manifest.read_text() == kept
    medssl("split", manifest, "-o", manifest, "--overwrite")
    assert "internal_test" in manifest.read_text()


def test_a_split_that_leaves_one_site_says_what_it_costs(manifest, tmp_path):
    sites = sorted(set(pd.read_csv(manifest)["site"]))
    out = medssl("split", manifest, "-o", tmp_path / "s.csv", "--external-sites", ",".join(sites[1:])).output
    assert "training rows have one site" in " ".join(out.split())
    out = medssl("split", manifest, "-o", tmp_path / "t.csv", "--external-fraction", 0.01).output
    assert "% asked for" in " ".join(out.split())


def test_split_keeps_families_and_copies_another_column_to_family(manifest, tmp_path):
    table = pd.read_csv(manifest, dtype=str)
    plain = medssl("split", manifest, "-o", tmp_path / "plain.csv", "--internal-fraction", 0.5, "--external-sites", "")
    assert "group" not in plain.output
    table.assign(Kin=[f"{k:03d}" if k < 6 else "" for k in [0, 1, 2, 3, 4, 5] * 2]).to_csv(
        tmp_path / "k.csv", index=False
    )
    options = ["--internal-fraction", 0.5, "--external-sites", "", "--overwrite"]
    for seed in range(4):
        told = medssl("split", tmp_path / "k.csv", "-o", tmp_path / "s.csv", "--group", "Kin", "--seed", seed, *options)
        after = pd.read_csv(tmp_path / "s.csv", dtype=str)
        assert after["family"].equals(after["Kin"])  # 000 keeps its zeros
        assert (after.groupby("family")["split"].nunique() == 1).all()
        assert set(after["split"]) == {"train", "internal_test"}
    words = " ".join(told.output.split())
    assert "the column Kin was copied to the column family" in words
    assert "6 groups of more than one person (family) hold 12 of 12 people" in words
    again = medssl("split", tmp_path / "s.csv", "-o", tmp_path / "t.csv", "--seed", 3, *options)  # by its own family
    assert pd.read_csv(tmp_path / "t.csv", dtype=str).equals(after)
    assert "copied" not in again.output


def test_split_refuses_groups_that_are_not_there_or_not_the_family_and_writes_nothing(manifest, tmp_path):
    table = pd.read_csv(manifest, dtype=str)
    table.assign(kin="1", family=[str(k) for k in range(12)]).to_csv(tmp_path / "k.csv", index=False)
    for column, words in (
        ("kim", "did you mean 'kin'"),
        ("kin", "family is '0' but kin is '1'"),
        ("subject", "no column"),
    ):
        refused = medssl("split", tmp_path / "k.csv", "-o", tmp_path / "s.csv", "--group", column, status=1).exception
        assert isinstance(refused, UserError)
        assert words in str(refused)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.oddity("characters-that-steer-a-terminal")
def test_scan_takes_out_what_steers_a_terminal_and_says_so(bids, tmp_path):
    table = (bids / "participants.tsv").read_text().replace("\tA\t", "\t\x1b]0;owned\x07\x1b[31mS\t", 1)
    (bids / "participants.tsv").write_text(table)
    told = medssl("scan", bids, "-o", tmp_path / "m.csv").output
    assert "note: 1 cell holds control characters, which were taken out (such as site '\\x1b]0;owned" in told
    assert "\x1b" not in told + (tmp_path / "m.csv").read_text()
    assert pd.read_csv(tmp_path / "m.csv")["site"][0] == "]0;owned[31mS"


def test_scan_hints_at_a_column_that_may_be_the_diagnosis(bids, tmp_path):
    lines = (bids / "participants.tsv").read_text().splitlines()
    rows = [f"{line}\t{'AD' if k % 2 else 'CN'}" for k, line in enumerate(lines[1:])]
    (bids / "participants.tsv").write_text("\n".join([f"{lines[0]}\tgroup", *rows]) + "\n")
    told = medssl("scan", bids, "-o", tmp_path / "m.csv").output
    assert "note: no column diagnosis was found; where group holds it, scan again with --column diagnosis=group" in told
    told = medssl("scan", bids, "-o", tmp_path / "n.csv", "--column", "diagnosis=group").output
    assert "no column diagnosis" not in told
    assert set(pd.read_csv(tmp_path / "n.csv")["diagnosis"]) == {"AD", "CN"}
