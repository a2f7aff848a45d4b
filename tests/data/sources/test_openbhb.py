from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medssl.cli.cohort import app
from medssl.data.checks.report import check
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import chosen_columns, raw_values
from medssl.data.sources.openbhb import MODALITIES, scan_openbhb
from medssl.data.sources.openbhb_measures import as_columns
from medssl.data.sources.tables import write_manifest
from medssl.data.volumes.openbhb_layout import BlockTable, reading_as
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume
from medssl.errors import ManifestError, UserError, VolumeError
from tests.data.sources import openbhb_lookalike as fake

_FIRST = ["desikan_roi_0_0", "desikan_roi_0_1"]
PLAIN = Preprocessing(intensity="none", mask="none")
WRITERS = {"arrays": fake.write_arrays, "tree": fake.write_tree, "folder": fake.write_folder}


@pytest.fixture(autouse=True)
def _small_blocks() -> Iterator[BlockTable]:
    with reading_as(fake.SMALL) as table:
        yield table


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    root = tmp_path_factory.mktemp("openbhb")
    with reading_as(fake.SMALL):
        return {name: (root / name, write(root / name)) for name, write in WRITERS.items()}


def cohort_of(root: Path, modality: str, out: Path) -> Cohort:
    return Cohort.read(write_manifest(scan_openbhb(root, modality), out / f"{modality}.csv"))


@pytest.mark.parametrize("modality", [m for m in MODALITIES if m != "raw"])
@pytest.mark.parametrize("layout", list(WRITERS))
def test_every_modality_of_every_layout_gives_the_same_scans(layouts, layout: str, modality: str, tmp_path: Path):
    root, values = layouts[layout]
    cohort = cohort_of(root, modality, tmp_path)
    expected = fake.volumes(values, modality)
    people = fake.people().set_index("participant_id")
    assert len(cohort.table) == len(people)
    for row in range(len(cohort.table)):
        label = cohort.table["participant_id"].iloc[row]
        read = read_volume(cohort.images(row)[0])
        at = people.index.get_loc(label)
        assert read.data.dtype == np.float32
        assert np.array_equal(read.data.reshape(-1), expected[at].reshape(-1))
        assert cohort.table["split"].iloc[row] == people.loc[label, "split"]
        assert cohort.table["site"].iloc[row] == people.loc[label, "siteXacq"]
        assert cohort.table["age"].iloc[row] == float(people.loc[label, "age"])
    tables = layout == "folder" and modality.endswith("roi")
    assert read.data.shape == ((1, expected[0].size, 1, 1) if tables else expected.shape[1:])
    spacing = {"vbm": 1.5, "quasiraw": 1.0}.get(modality, 1.0)
    assert read.spacing.tolist() == [spacing] * 3


def test_raw_images_are_found_in_the_folder_layout_only(layouts, tmp_path: Path):
    cohort = cohort_of(layouts["folder"][0], "raw", tmp_path)
    cohort.check_files()
    assert read_volume(cohort.images(0)[0]).data.shape == (1, 5, 6, 4)
    assert cohort.table["image"].iloc[-1].endswith("val/rawdata/sub-000000000019/ses-1/sub-000000000019_T1w.nii.gz")
    with pytest.raises(ManifestError, match="hold no raw images"):
        scan_openbhb(layouts["arrays"][0], "raw")
    with pytest.raises(ManifestError, match="no file sub-"):
        scan_openbhb(layouts["tree"][0], "raw")


def test_official_splits_and_the_three_folds_stand_in_columns(layouts):
    found = scan_openbhb(layouts["arrays"][0], "vbm_roi")
    assert found["split"].value_counts().to_dict() == {"train": 12, "internal_test": 4, "external_test": 3}
    for name, parts in fake.folds().items():
        for split, rows in parts.items():
            assert found[name].iloc[rows].tolist() == [split] * len(rows)
        assert set(found[name][found["split"] != "train"]) == {""}
    assert found["image"].iloc[12].endswith("external_test.npy#vbm_roi@0") is False
    assert found["image"].iloc[12].endswith("internal_test.npy#vbm_roi@0")


def test_folds_by_participant_are_read_for_files_too(layouts, tmp_path: Path):
    root = tmp_path / "tree"
    fake.write_tree(root, split=True)
    ids = fake.people()["participant_id"]
    named = {f: {s: [int(ids[k]) for k in rows] for s, rows in p.items()} for f, p in fake.folds().items()}
    text = {f: {s: [str(ids[k]) for k in rows] for s, rows in p.items()} for f, p in fake.folds().items()}
    (root / "cv_splits.json").write_text(json.dumps(text))
    found = scan_openbhb(root, "desikan_roi")
    by_index = scan_openbhb(layouts["arrays"][0], "desikan_roi")
    assert found["fold1"].tolist() == by_index["fold1"].tolist()
    assert found["participant_id"].tolist() == ids.tolist(), "leading zeros stay"
    (root / "cv_splits.json").write_text(json.dumps(named))
    with pytest.raises(ManifestError, match="not in the training set"):
        scan_openbhb(root, "desikan_roi")


def test_one_test_array_with_a_column_split_is_the_same_cohort(layouts, tmp_path: Path):
    fake.write_arrays(tmp_path / "one", pair=False)
    one, pair = scan_openbhb(tmp_path / "one", "vbm"), scan_openbhb(layouts["arrays"][0], "vbm")
    assert one["split"].tolist() == pair["split"].tolist()
    assert one["image"].iloc[16].endswith("test.npy#vbm@4")
    assert one["participant_id"].tolist() == pair["participant_id"].tolist()


def test_test_rows_without_a_split_are_refused(tmp_path: Path):
    fake.write_arrays(tmp_path, pair=False)
    table = pd.read_csv(tmp_path / "test.tsv", sep="\t", dtype=str).drop(columns="split")
    table.to_csv(tmp_path / "test.tsv", sep="\t", index=False)
    with pytest.raises(ManifestError, match=r"test\.tsv has no column split"):
        scan_openbhb(tmp_path, "vbm")


def test_a_tree_without_any_split_is_refused(tmp_path: Path):
    fake.write_tree(tmp_path)
    for path in tmp_path.glob("*_site_labels_v1.tsv"):
        path.unlink()
    with pytest.raises(ManifestError, match="official splits are unknown"):
        scan_openbhb(tmp_path, "vbm")


def test_rows_without_a_site_stay(tmp_path: Path):
    fake.write_arrays(tmp_path)
    path = tmp_path / "external_test.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str).assign(siteXacq="nan")
    table.to_csv(path, sep="\t", index=False)
    found = scan_openbhb(tmp_path, "vbm")
    assert (found["site"] == "").sum() == fake.EXTERNAL
    assert any("have no site" in note for note in found.attrs["notes"])


def test_a_mask_is_recorded_found_beside_the_data_or_given(layouts, tmp_path: Path):
    root = layouts["arrays"][0]
    found = scan_openbhb(root, "quasiraw")
    assert set(found["mask"]) == {str(root / "resource" / "quasiraw_space-MNI152_desc-brain_T1w.nii.gz")}
    assert "mask" not in scan_openbhb(root, "xhemi")
    assert "mask" not in scan_openbhb(layouts["tree"][0], "vbm")
    fake.write_arrays(tmp_path / "a")
    (tmp_path / "a" / "resource").rename(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="--vbm-mask FILE"):
        scan_openbhb(tmp_path / "a", "vbm")
    given = tmp_path / "elsewhere" / "cat12vbm_space-MNI152_desc-gm_TPM.nii.gz"
    assert set(scan_openbhb(tmp_path / "a", "vbm", {"vbm": given})["mask"]) == {str(given)}


def test_a_mask_of_another_voxel_count_stops_the_scan_and_writes_nothing(tmp_path: Path):
    fake.write_arrays(tmp_path / "a")
    path = tmp_path / "a" / "resource" / "cat12vbm_space-MNI152_desc-gm_TPM.nii.gz"
    values = fake.mask_values(fake.SMALL.block("vbm"))
    values[tuple(np.argwhere(values > 0.05)[0])] = 0
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    arguments = ["scan", str(tmp_path / "a"), "--layout", "openbhb", "-o", str(tmp_path / "m.csv")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    assert isinstance(done.exception, VolumeError)
    count = fake.SMALL.block("vbm").mask_voxels
    assert f"has {count - 1:,} voxels above 0.05, but the mask of vbm has {count:,}" in str(done.exception)
    assert not (tmp_path / "m.csv").exists()
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)), path)
    with pytest.raises(VolumeError, match="3 x 3 x 3 voxels"):
        scan_openbhb(tmp_path / "a", "vbm")


def test_an_array_of_another_width_or_length_than_its_table_is_refused(tmp_path: Path):
    values = fake.write_arrays(tmp_path)
    np.save(tmp_path / "train.npy", values[:10])
    with pytest.raises(ManifestError, match=r"train\.tsv has 12 rows, but train\.npy has 10"):
        scan_openbhb(tmp_path, "vbm_roi")
    np.save(tmp_path / "train.npy", values[:12, :-1])
    with pytest.raises(VolumeError, match="rows of OpenBHB have"):
        scan_openbhb(tmp_path, "vbm_roi")
    (tmp_path / "train.npy").write_bytes((tmp_path / "internal_test.npy").read_bytes()[:-100])
    with pytest.raises(VolumeError, match=r"train\.npy cannot be read, truncated or corrupt"):
        scan_openbhb(tmp_path, "vbm_roi")


@pytest.mark.parametrize(
    "wrong", [{"fold0": {}}, [1], {"fold0": {"train": [99], "internal_test": [], "external_test": []}}]
)
def test_folds_of_another_release_are_refused(tmp_path: Path, wrong: object):
    fake.write_arrays(tmp_path)
    (tmp_path / "cv_splits_indices.json").write_text(json.dumps(wrong))
    with pytest.raises(ManifestError, match=r"cv_splits_indices\.json(: (99 of )?fold0| is a list, but an object)"):
        scan_openbhb(tmp_path, "vbm_roi")


def test_no_copy_of_openbhb_and_an_unknown_modality_are_refused(tmp_path: Path):
    with pytest.raises(ManifestError, match="is no copy of OpenBHB"):
        scan_openbhb(tmp_path)
    with pytest.raises(ManifestError, match="modality 't2' is unknown"):
        scan_openbhb(tmp_path, "t2")
    with pytest.raises(ManifestError, match="not a folder"):
        scan_openbhb(tmp_path / "none")


@pytest.mark.parametrize("modality", ["vbm", "xhemi", "desikan_roi"])
@pytest.mark.parametrize("layout", list(WRITERS))
def test_the_cache_and_the_check_take_every_kind_of_reference(layouts, layout: str, modality: str, tmp_path: Path):
    cohort = cohort_of(layouts[layout][0], modality, tmp_path)
    cohort.check_files()
    cache = VolumeCache(tmp_path / "cache")
    files = [cohort.images(row) for row in range(len(cohort.table))]
    assert cache.build(files, PLAIN, workers=1, progress=False).built == 19
    shape = cache.common_shape(files, PLAIN)
    assert np.array_equal(cache.load(files[3], PLAIN), read_volume(files[3][0]).data)
    assert cache.load(files[3], PLAIN).shape == shape
    report = check(cohort, progress=False, workers=1)
    assert report.ok, report.findings
    assert report.summary["files_with_voxels_read"] == 19


def test_a_manifest_by_the_command_line_can_be_moved_with_its_data_and_split_anew(tmp_path: Path):
    fake.write_arrays(tmp_path / "a")
    manifest = tmp_path / "a" / "m.csv"
    done = CliRunner().invoke(app, ["scan", str(tmp_path / "a"), "--layout", "openbhb", "-o", str(manifest)])
    assert done.exit_code == 0, done.output
    lines = manifest.read_text().splitlines()
    assert "train.npy#vbm@0" in lines[1]
    assert ",resource/cat12vbm_space-MNI152_desc-gm_TPM.nii.gz" in lines[1]
    digest = Cohort.read(manifest).digest
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Cohort.read(tmp_path / "b" / "m.csv")
    assert moved.digest == digest
    assert read_volume(moved.images(0)[0]).data.shape == (1, 6, 7, 5)
    arguments = ["split", str(tmp_path / "b" / "m.csv"), "-o", str(tmp_path / "split.csv"), "--external-sites", "1"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = Cohort.read(tmp_path / "split.csv")
    again.check_files()
    assert np.array_equal(read_volume(again.images(5)[0]).data, read_volume(moved.images(5)[0]).data)


def test_a_missing_mask_and_a_row_that_is_not_there_are_one_sentence(layouts, tmp_path: Path):
    cohort = cohort_of(layouts["arrays"][0], "vbm", tmp_path)
    bare = Cohort(cohort.table.drop(columns="mask"))
    with pytest.raises(VolumeError, match="fill the column mask"):
        read_volume(bare.images(0)[0])
    gone = Cohort(cohort.table.assign(mask=str(tmp_path / "none.nii.gz")))
    with pytest.raises(ManifestError, match=r"none\.nii\.gz"):
        gone.check_files()
    with pytest.raises(UserError, match="does not exist"):
        VolumeCache(tmp_path).key(gone.images(0), PLAIN)
    report = check(gone, progress=False, workers=1)
    assert {f.code for f in report.findings if f.level == "error"} == {"missing-file"}
    with pytest.raises(VolumeError, match="has 12 rows, so no row 99"):
        read_volume(f"{layouts['arrays'][0]}/train.npy#xhemi@99")


@pytest.mark.parametrize("layout", list(WRITERS))
def test_regional_measures_can_be_columns_of_the_manifest(layouts, layout: str, tmp_path: Path):
    root, values = layouts[layout]
    out = tmp_path / "m.csv"
    call = ["scan", str(root), "--layout", "openbhb", "--modality", "desikan_roi", "--as-table", "-o", str(out)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    cohort = Cohort.read(out, images=False)
    names = chosen_columns(cohort, ["desikan_roi_*"])
    assert names[:2] == (["desikan_roi_region0_Vol", "desikan_roi_region1_Vol"] if layout == "folder" else _FIRST)
    order = [fake.people()["participant_id"].tolist().index(label) for label in cohort.table["participant_id"]]
    expected = fake.volumes(values, "desikan_roi").reshape(len(values), -1)[order]
    assert np.array_equal(raw_values(cohort, names).astype(np.float32), expected)
    assert set(cohort.table["split"]) == {"train", "internal_test", "external_test"}
    with pytest.raises(ManifestError, match="cannot be written as columns"):
        as_columns(scan_openbhb(root, "xhemi"), "xhemi")


def test_regional_measures_are_never_resampled(layouts, tmp_path: Path):
    cohort = cohort_of(layouts["tree"][0], "desikan_roi", tmp_path)
    with pytest.raises(VolumeError, match=r"preprocessing\.spacing=null"):
        VolumeCache(tmp_path).load(cohort.images(0), Preprocessing(spacing=2))


@pytest.mark.oddity("table-not-fetched")
def test_what_is_not_fetched_is_named(layouts, tmp_path: Path):
    fake.write_tree(tmp_path, split=True)
    path = sorted((tmp_path / "data").glob("*_preproc-cat12vbm_desc-gm_T1w.npy"))[0]
    path.unlink()
    path.symlink_to("../.git/annex/objects/x/y/z.npy")
    found = scan_openbhb(tmp_path, "vbm")
    assert len(found) == len(scan_openbhb(layouts["tree"][0], "vbm"))
    assert f"fetch them with `datalad get {path}`" in " | ".join(found.attrs["notes"])
    (tmp_path / "participants.tsv").unlink()
    (tmp_path / "participants.tsv").symlink_to(".git/annex/objects/x/y/z.tsv")
    with pytest.raises(ManifestError, match=r"participants\.tsv is a git-annex link .* `datalad get"):
        scan_openbhb(tmp_path, "vbm")


@pytest.mark.oddity("sessions-that-do-not-meet")
def test_sessions_of_the_table_meet_those_of_the_folder_or_are_refused(tmp_path: Path):
    fake.write_folder(tmp_path)
    before = scan_openbhb(tmp_path, "vbm")
    path = tmp_path / "participants.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str)
    table.assign(session="01").to_csv(path, sep="\t", index=False)
    assert scan_openbhb(tmp_path, "vbm")["age"].tolist() == before["age"].tolist()
    table.assign(session="first").to_csv(path, sep="\t", index=False)
    with pytest.raises(ManifestError, match=r"\(first\) meets one in the folder \(ses-1\)"):
        scan_openbhb(tmp_path, "vbm")
    found = scan_openbhb(tmp_path, "vbm", sessions=[("first", "ses-1")])
    assert found["age"].tolist() == before["age"].tolist()
