from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.found import natural, shared_glob
from medssl.data.sources.tables import write_manifest
from medssl.data.volumes.volume import read_volume
from medssl.errors import ManifestError
from tests.data.sources.trees import (
    annex_link,
    annex_pointer,
    bids,
    lfs_pointer,
    names,
    notes,
    scans,
    table,
)


def test_numbers_in_names_are_ordered_as_numbers():
    assert sorted(["sub-10", "sub-2", "sub-1"], key=natural) == ["sub-1", "sub-2", "sub-10"]


@pytest.mark.oddity("hidden-file")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_hidden_files_are_never_scans(tmp_path: Path, layout: str):
    bids(tmp_path, "01", "02")
    scans(tmp_path, "sub-01/anat/._sub-01_T1w.nii.gz", ".Trash/sub-03/anat/sub-03_T1w.nii.gz")
    table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == ["sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"]
    assert "further" not in notes(found)
    assert read_volume(found["image"][0]).data.shape == (1, 4, 4, 4)


@pytest.mark.oddity("folder-named-like-an-image")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_a_folder_named_like_an_image_is_no_scan(tmp_path: Path, layout: str):
    bids(tmp_path, "01")
    (tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz").mkdir(parents=True)
    table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == ["sub-01_T1w.nii.gz"]
    if layout == "bids":
        assert "1 image left out, named like an image, but a folder: sub-02_T1w.nii.gz" in notes(found)


@pytest.mark.oddity("phase-image")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_phase_images_are_left_out_beside_their_magnitude(tmp_path: Path, layout: str):
    base = "sub-01/anat/sub-01_"
    scans(tmp_path, *[f"{base}part-{part}_T1w.nii.gz" for part in ("imag", "mag", "phase", "real")])
    table(tmp_path, "participant_id age\nsub-01 30\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == ["sub-01_part-mag_T1w.nii.gz"]
    assert "3 images of phases, real or imaginary parts left out beside a magnitude" in notes(found)


@pytest.mark.oddity("phase-image-alone")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_a_phase_image_without_a_magnitude_is_nobodys_scan_and_named(tmp_path: Path, layout: str):
    bids(tmp_path, "01")
    scans(tmp_path, "sub-02/anat/sub-02_part-phase_T1w.nii.gz")
    table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == ["sub-01_T1w.nii.gz"]
    assert "left out, without a magnitude image of the same name" in notes(found)
    assert "sub-02_part-phase_T1w.nii.gz" in notes(found)
    (tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    with pytest.raises(ManifestError, match="phases"):
        scan_folder(tmp_path, layout=layout)


@pytest.mark.oddity("other-formats")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
@pytest.mark.parametrize("ending", [".mgz", ".nii", ".nii.gz", ".NII.GZ", ".img", ".nrrd", ".mha", ".npy"])
def test_every_format_that_is_read_is_found_in_every_layout(tmp_path: Path, layout: str, ending: str):
    scans(tmp_path, f"sub-01/anat/sub-01_T1w{ending}", "sub-01/anat/sub-01_T1w.json")
    table(tmp_path, "participant_id age\nsub-01 30\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == [f"sub-01_T1w{ending}"]
    assert found["participant_id"].tolist() == ["sub-01"]


@pytest.mark.oddity("detached-pair")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_a_pair_of_img_and_hdr_is_one_scan(tmp_path: Path, layout: str):
    scans(tmp_path, "sub-01/anat/sub-01_T1w.img", "sub-01/anat/sub-01_T1w.hdr")
    table(tmp_path, "participant_id age\nsub-01 30\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == ["sub-01_T1w.img"]
    assert "further" not in notes(found)


@pytest.mark.oddity("scan-in-two-formats")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_a_scan_in_two_formats_is_one_and_nifti_is_taken(tmp_path: Path, layout: str):
    scans(tmp_path, "sub-01/anat/sub-01_T1w.mgz", "sub-01/anat/sub-01_T1w.nii.gz")
    table(tmp_path, "participant_id age\nsub-01 30\n")
    found = scan_folder(tmp_path, layout=layout)
    assert names(found) == ["sub-01_T1w.nii.gz"]
    assert "1 file left out, being copies of a scan in another format: sub-01_T1w.mgz" in notes(found)


@pytest.mark.oddity("annex-link")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_scans_that_are_not_fetched_stay_and_the_command_is_said(tmp_path: Path, layout: str):
    bids(tmp_path, "03")
    absent = [annex_link(tmp_path / f"sub-0{k}" / "anat" / f"sub-0{k}_T1w.nii.gz") for k in (1, 2)]
    table(tmp_path, "participant_id age\nsub-01 30\nsub-02 40\nsub-03 50\n")
    found = scan_folder(tmp_path, layout=layout)
    assert found["image"].tolist()[:2] == [str(path) for path in absent]
    glob = f"{tmp_path}/sub-0*/anat/sub-0*_T1w.nii.gz"
    assert (
        f"2 of 3 images are pointers or links of git-annex whose content is not here; fetch them with "
        f"`datalad get {glob}`" in notes(found)
    )
    assert shared_glob([str(path) for path in absent]) == glob
    cohort = Cohort.read(write_manifest(found, tmp_path / "m.csv"))
    assert len(cohort.table) == 3


@pytest.mark.oddity("annex-pointer")
def test_unlocked_pointers_of_git_annex_are_named(tmp_path: Path):
    bids(tmp_path, "01")
    annex_pointer(tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    found = scan_folder(tmp_path)
    assert len(found) == 2
    assert f"fetch them with `datalad get {tmp_path}/sub-02/anat/sub-02_T1w.nii.gz`" in notes(found)


@pytest.mark.oddity("lfs-pointer")
def test_pointers_of_git_lfs_are_named(tmp_path: Path):
    for k in (1, 2):
        lfs_pointer(tmp_path / f"a{k}_T1w.nii.gz")
    found = scan_folder(tmp_path)
    assert len(found) == 2
    assert 'fetch them with `git lfs pull --include "a*_T1w.nii.gz"`' in notes(found)


@pytest.mark.oddity("dangling-link")
def test_other_links_that_lead_nowhere_are_named(tmp_path: Path):
    bids(tmp_path, "01")
    (tmp_path / "sub-02" / "anat").mkdir(parents=True)
    (tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz").symlink_to("/no/such/scan.nii.gz")
    found = scan_folder(tmp_path)
    assert len(found) == 2
    assert "1 of 2 images are links that lead nowhere" in notes(found)
    assert "is a link to /no/such/scan.nii.gz" in notes(found)


@pytest.mark.oddity("table-not-fetched")
@pytest.mark.parametrize("stand_in", [annex_link, annex_pointer, lfs_pointer])
def test_a_table_that_is_not_fetched_stops_the_scan_with_the_command(tmp_path: Path, stand_in):
    bids(tmp_path, "01")
    stand_in(tmp_path / "participants.tsv")
    with pytest.raises(ManifestError, match=r"participants\.tsv is .* fetch it with `(datalad get|git lfs pull)"):
        scan_folder(tmp_path)


@pytest.mark.oddity("sessions-table-not-fetched")
def test_a_table_of_sessions_that_is_not_fetched_stops_the_scan(tmp_path: Path):
    bids(tmp_path, "01/1")
    table(tmp_path, "participant_id age\nsub-01 30\n")
    annex_link(tmp_path / "sub-01" / "sub-01_sessions.tsv")
    with pytest.raises(ManifestError, match=r"sub-01_sessions\.tsv is a git-annex link .* `datalad get"):
        scan_folder(tmp_path)


def echoes(root: Path, *numbers: int, combined: bool = False) -> Path:
    scans(root, *[f"sub-01/anat/sub-01_echo-{k}_MEGRE.nii.gz" for k in numbers])
    return scans(root, "sub-01/anat/sub-01_MEGRE.nii.gz") if combined else root


@pytest.mark.oddity("echoes-without-a-combined-image")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_of_several_echoes_the_first_is_taken_and_said_or_the_one_asked_for(tmp_path: Path, layout: str):
    echoes(tmp_path, 10, 2, 1)
    table(tmp_path, "participant_id age\nsub-01 30\n")
    found = scan_folder(tmp_path, "MEGRE", layout=layout)
    assert names(found) == ["sub-01_echo-1_MEGRE.nii.gz"]
    assert "1 scan came in several echoes without a combined image; echo 1 was taken (--echo N chooses)" in notes(found)
    assert names(scan_folder(tmp_path, "MEGRE", layout=layout, echo=10)) == ["sub-01_echo-10_MEGRE.nii.gz"]
    with pytest.raises(ManifestError, match="echo-4"):
        scan_folder(tmp_path, "MEGRE", layout=layout, echo=4)


@pytest.mark.oddity("echoes-with-a-combined-image")
@pytest.mark.parametrize("layout", ["bids", "flat", "plain"])
def test_a_combined_image_is_taken_rather_than_its_echoes(tmp_path: Path, layout: str):
    echoes(tmp_path, 1, 2, combined=True)
    table(tmp_path, "participant_id age\nsub-01 30\n")
    found = scan_folder(tmp_path, "MEGRE", layout=layout)
    assert names(found) == ["sub-01_MEGRE.nii.gz"]
    assert "of 1 scan with several echoes the combined image was taken" in notes(found)
    assert names(scan_folder(tmp_path, "MEGRE", layout=layout, echo=2)) == ["sub-01_echo-2_MEGRE.nii.gz"]


def test_a_combined_image_of_another_name_is_taken_before_an_echo(tmp_path: Path):
    scans(tmp_path, "sub-01/anat/sub-01_echo-1_T1w.nii.gz", "sub-01/anat/sub-01_echo-2_T1w.nii.gz")
    scans(tmp_path, "sub-01/anat/sub-01_rec-rms_run-1_T1w.nii.gz")
    assert names(scan_folder(tmp_path)) == ["sub-01_rec-rms_run-1_T1w.nii.gz"]
