"""What is named like a scan and is none: nothing waits for it, and nothing odd costs the other files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.data.checks.files import examine
from medssl.data.sources.bids import scan_folder, write_manifest
from medssl.data.volumes.stored_arrays import content_digest
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError


def good(path: Path, seed: int = 0) -> Path:
    data = np.random.default_rng(seed).integers(1, 900, (9, 9, 9)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def named_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.nii.gz")
    return folder / "x.nii.gz"


def half_a_pipe(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(np.zeros((3, 3, 3), np.int16), np.eye(4)), folder / "x.img")
    (folder / "x.img").unlink()
    os.mkfifo(folder / "x.img")
    return folder / "x.hdr"


def device(folder: Path) -> Path:
    (folder / "x.npy").symlink_to("/dev/zero")
    return folder / "x.npy"


def endless(folder: Path) -> Path:
    (folder / "x.mha").symlink_to("/dev/zero")
    return folder / "x.mha"


def its_voxels_are_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "voxels.raw")
    head = "ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_FLOAT\nElementDataFile = voxels.raw\n"
    (folder / "x.mhd").write_text(head)
    return folder / "x.mhd"


def its_voxels_are_listed(folder: Path) -> Path:
    os.mkfifo(folder / "slice.raw")
    head = (
        "NRRD0004\ntype: float\ndimension: 3\nsizes: 3 3 1\nencoding: raw\nendian: little\ndata file: LIST\nslice.raw\n"
    )
    (folder / "x.nhdr").write_text(head)
    return folder / "x.nhdr"


def a_socket(folder: Path) -> Path:
    here = os.getcwd()
    os.chdir(folder)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x.nii")
    finally:
        os.chdir(here)
    return folder / "x.nii"


KINDS = {
    named_pipe: "is a named pipe",
    half_a_pipe: "one file of a pair, and the other one, ",
    device: "is a device",
    endless: "is a device",
    its_voxels_are_a_pipe: "names the file of its voxels, and it, ",
    its_voxels_are_listed: 'names its voxels "LIST"',
    a_socket: "is a socket",
}


@pytest.mark.oddity("no-regular-file")
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_pipe_a_socket_and_a_device_are_refused_and_never_opened(tmp_path: Path, make, monkeypatch):
    path = make(tmp_path)
    for read in (read_header, read_volume):
        with pytest.raises(VolumeError, match=KINDS[make]) as told:
            read(path)
        assert "not a file" in str(told.value) or make is its_voxels_are_listed
    for deep in (False, True):
        facts = examine((str(path), deep))
        assert (facts.code, KINDS[make] in facts.text) == ("unreadable", True)
    if KINDS[make].startswith("is a"):
        with pytest.raises(VolumeError, match=KINDS[make]):
            content_digest(path)


@pytest.mark.oddity("vanished-file")
def test_a_file_that_vanishes_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = good(tmp_path / "x.nii")
    monkeypatch.setattr("medssl.data.volumes.volume.nifti_header", lambda path, **_: path.unlink() or path.read_bytes())
    with pytest.raises(VolumeError, match=r"x\.nii vanished while it was read; put it back, or drop the row"):
        read_header(path)


@pytest.mark.oddity("unreadable-file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = good(tmp_path / "x.nii")

    def forbidden(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("medssl.data.volumes.volume.nifti_header", forbidden)
    facts = examine((str(path), True))
    assert (facts.code, "may not be read" in facts.text) == ("unreadable", True)


@pytest.mark.oddity("no-regular-file")
def test_one_odd_file_of_each_kind_costs_none_of_the_others(tmp_path: Path):
    folder = tmp_path / "scans"
    folder.mkdir()
    images = [good(folder / f"p{k}_T1w.nii.gz", k) for k in range(3)]
    for k, make in enumerate(KINDS):
        (folder / str(k)).mkdir()
        images.append(make(folder / str(k)))
    (folder / "loop.nii").symlink_to("loop.nii")
    (folder / "png.nii").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600))
    (folder / "x.nii.gz").mkdir()
    np.save(folder / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    images += [folder / name for name in ("loop.nii", "png.nii", "x.nii.gz", "object.npy")]
    table = pd.DataFrame({"participant_id": [f"p{k}" for k in range(len(images))], "image": list(map(str, images))})
    table.to_csv(tmp_path / "m.csv", index=False)
    command = [sys.executable, "-m", "medssl", "cohort", "check", "m.csv", "--json", "check.json", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    found = pd.DataFrame(pd.read_json(tmp_path / "check.json", typ="series")["findings"])
    of_files = found[found["code"].isin(["unreadable", "missing-file"])]
    assert sorted(of_files["row"]) == list(range(5, len(images) + 2))
    assert not found["text"].str.contains("Traceback|rror\\(").any()
    scanned = scan_folder(folder, layout="plain")  # opens none of them
    assert set(map(str, images[:3])) <= set(scanned["image"])
    write_manifest(scanned, tmp_path / "scanned.csv")
