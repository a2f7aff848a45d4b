from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.data.checks.report import CheckReport, Finding, check
from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder, write_manifest
from medssl.errors import UserError

REAL = Path(os.environ.get("MEDSSL_REAL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "brains4mm"
SHAPE = (8, 9, 7)


def brain(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0]) if affine is None else affine)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nib.save(image, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> pd.DataFrame:
    """Sixteen good scans at two sites, with a balanced range of ages; tests break some of it."""
    rows = []
    for k in range(16):
        image = save(tmp_path / f"s{k:02d}.nii.gz", brain(k))
        rows.append(
            {
                "participant_id": f"s{k:02d}",
                "image": str(image),
                "age": 20.0 + 5 * (k // 2),
                "site": "AB"[k % 2],
            }
        )
    return pd.DataFrame(rows).assign(sex="F", split="train", session="", dataset="")


def run(table: pd.DataFrame, sample: int = 500) -> CheckReport:
    path = write_manifest(table, Path(table["image"].iloc[0]).parent / "manifest.csv")
    return check(Cohort.read(path), sample=sample, progress=False)


def only(report: CheckReport, code: str) -> Finding:
    found = [finding for finding in report.findings if finding.code == code]
    assert len(found) == 1, [finding.text for finding in report.findings]
    return found[0]


def image(table: pd.DataFrame, row: int) -> Path:
    return Path(table["image"].iloc[row])


def test_a_good_cohort_has_no_error_and_no_warning(folder):
    report = run(folder)
    assert report.ok
    assert [finding.level for finding in report.findings] == ["info"], report.findings
    assert report.summary["files_with_voxels_read"] == 16
    assert report.summary["shape"] == SHAPE
    assert report.summary["orientation"] == "RAS"


def broken(code: str, path: Path) -> None:
    """Make the file at ``path`` bad in one way."""
    if code == "missing-file":
        path.unlink()
    elif code == "unreadable":
        path.write_bytes(gzip.compress(b"this is no image" * 40))
    elif code == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif code == "no-bytes":
        path.write_bytes(b"")
    elif code == "zeros":
        save(path, np.zeros(SHAPE, np.float32))
    elif code == "constant":
        save(path, np.full(SHAPE, 7, np.float32))
    elif code == "nan":
        save(path, np.where(np.arange(SHAPE[2]) == 3, np.nan, brain(1)).astype(np.float32))
    elif code == "inf":
        save(path, np.where(np.arange(SHAPE[2]) == 3, np.inf, brain(1)).astype(np.float32))
    elif code == "4d":
        save(path, brain(1, (*SHAPE, 5)))


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("missing-file", "missing-file", "s03.nii.gz does not exist"),
        ("unreadable", "unreadable", "not a NIfTI file"),
        ("truncated", "truncated", "s03.nii.gz is truncated"),
        ("no-bytes", "empty", "is empty (0 bytes)"),
        ("zeros", "empty", "every voxel is 0"),
        ("constant", "constant", "every voxel is 7"),
        ("nan", "not-finite", "(14 %) that are NaN"),
        ("inf", "not-finite", "that are Inf"),
        ("4d", "4d", "has shape 8 x 9 x 7 x 5"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_an_error_with_file_and_row(folder, kind, code, says):
    broken(kind, image(folder, 3))
    report = run(folder)
    finding = only(report, code)
    assert not report.ok
    assert finding.level == "error"
    assert finding.row == 5
    assert finding.file == str(image(folder, 3))
    assert says in finding.text
    assert "manifest.csv row 5 (s03)" in finding.text


def test_a_trailing_dimension_of_one_is_not_4d(folder):
    save(image(folder, 3), brain(3, (*SHAPE, 1)))
    assert run(folder).ok


def test_plain_and_gzipped_files_cut_short_are_found_without_reading_voxels(folder):
    nib.save(nib.Nifti1Image(brain(3), np.eye(4)), image(folder, 3).with_suffix(""))
    plain = image(folder, 3).with_suffix("")
    plain.write_bytes(plain.read_bytes()[:-100])
    folder.loc[3, "image"] = str(plain)
    broken("truncated", image(folder, 5))
    report = run(folder, sample=0)
    assert [f.row for f in report.findings if f.code == "truncated"] == [5, 7]
    assert report.summary["files_with_voxels_read"] == 0


def test_only_a_sample_of_the_voxels_is_read(folder):
    report = run(folder, sample=4)
    assert report.summary["files_with_voxels_read"] == 4
    with pytest.raises(UserError, match="0 or more"):
        run(folder, sample=-1)


def test_headers_that_differ_from_most_are_warnings(folder):
    save(image(folder, 1), brain(1), np.diag([-4.0, 4.0, 4.0, 1.0]))
    save(image(folder, 2), brain(2), np.diag([4.0, 4.0, 5.0, 1.0]))
    save(image(folder, 3), brain(3, (9, 9, 7)))
    report = run(folder)
    assert report.ok
    assert "orientation is LAS, most files (15 of 16) have RAS" in only(report, "orientation").text
    assert "spacing is 4 x 4 x 5 mm, most files (15 of 16) have 4 x 4 x 4 mm" in only(report, "spacing").text
    assert "shape is 9 x 9 x 7" in only(report, "shape").text
    assert [only(report, code).row for code in ("orientation", "spacing", "shape")] == [3, 4, 5]


def test_sform_and_qform_that_disagree_are_found(folder):
    one = nib.Nifti1Image(brain(1), np.diag([4.0, 4.0, 4.0, 1.0]))
    one.set_sform(one.affine, 1)
    shifted = one.affine.copy()
    shifted[0, 3] = 12
    one.set_qform(shifted, 1)
    nib.save(one, image(folder, 1))
    two = nib.Nifti1Image(brain(2), None)
    two.header.set_zooms((4, 4, 4))
    two.set_sform(None, 0)
    two.set_qform(None, 0)
    nib.save(two, image(folder, 2))
    texts = [finding.text for finding in run(folder).findings if finding.code == "sform-qform"]
    assert len(texts) == 2
    assert "12.0 mm apart" in texts[0]
    assert "neither sform nor qform is set" in texts[1]


def test_copies_are_found_by_content_whatever_the_file_looks_like(folder):
    save(image(folder, 3), brain(0))
    nib.save(nib.Nifti1Image(brain(0).astype(np.int16), np.diag([4.0, 4.0, 4.0, 1.0])), image(folder, 5))
    report = run(folder)
    found = [finding for finding in report.findings if finding.code == "duplicate"]
    assert [finding.row for finding in found] == [5, 7]
    assert "s03.nii.gz holds the same voxels as manifest.csv row 2 (s00) of another participant" in found[0].text
    assert report.ok


def test_copies_outside_the_sample_are_found_by_their_fingerprints(folder):
    image(folder, 14).write_bytes(image(folder, 7).read_bytes())
    report = run(folder, sample=0)
    assert only(report, "duplicate").row == 16
    assert report.summary["files_with_voxels_read"] == 2


def test_a_file_named_twice_is_found(folder):
    folder.loc[3, "image"] = folder.loc[2, "image"]
    assert "is the same file as manifest.csv row 4" in only(run(folder), "duplicate").text
    folder.loc[[2, 3], "age"] = [30, 60]
    assert "of another participant, with age 60 here and 30 there; keep one" in only(run(folder), "duplicate").text


def test_a_copy_on_both_sides_of_a_split_is_an_error(folder):
    save(image(folder, 3), brain(0))
    folder.loc[3, "split"] = "internal_test"
    finding = only(run(folder), "copy-across-splits")
    assert finding.level == "error"
    assert "one is in train and the other in internal_test" in finding.text


def test_findings_come_worst_first_and_the_report_is_json(folder):
    broken("zeros", image(folder, 15))
    folder.loc[0, "age"] = -4
    report = run(folder)
    assert [finding.level for finding in report.findings] == ["error", "warning", "info"]
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["ok"] is False
    assert again["summary"]["counts"] == {"error": 1, "warning": 1, "info": 1}
    assert again["findings"][0]["code"] == "empty"


def test_further_image_columns_are_checked_among_themselves(folder):
    other = [save(image(folder, k).with_name(f"t2_{k}.nii.gz"), brain(100 + k, (5, 5, 5))) for k in range(16)]
    folder["image_t2"] = [str(path) for path in other]
    assert run(folder).ok
    save(other[4], np.full((5, 5, 5), 7, np.float32))
    report = run(folder)
    assert only(report, "constant").row == 6
    assert not [finding for finding in report.findings if finding.code == "shape"]


def test_many_files_are_read_by_several_processes_with_the_same_result(folder):
    for k in range(16, 60):
        new = folder.iloc[k % 16].to_dict() | {
            "participant_id": f"s{k}",
            "image": str(image(folder, 0).with_name(f"s{k}.nii")),
        }
        save(Path(new["image"]), brain(k))
        folder.loc[k] = new
    broken("nan", image(folder, 40))
    path = write_manifest(folder, image(folder, 0).parent / "manifest.csv")
    one, two = (check(Cohort.read(path), progress=False, workers=workers) for workers in (1, 2))
    assert one.to_dict() == two.to_dict()
    assert not one.ok


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scans at {REAL}; set MEDSSL_REAL_DATA")
def test_real_brains_have_no_errors_and_are_known_to_be_confounded(tmp_path):
    report = check(Cohort.read(write_manifest(scan_folder(REAL), tmp_path / "manifest.csv")), progress=False)
    assert report.ok
    assert report.summary["age_site"]["mae_median"] > report.summary["age_site"]["mae_site_median"]
    assert only(report, "age-site").level == "warning"
