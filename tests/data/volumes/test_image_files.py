"""Names of scans: what counts, what does not, and what a walk finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.volumes.image_files import SUFFIXES, find_images, is_image_name, stem, suffix_of


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_known_in_any_capitals_and_a_pair_counts_once(suffix):
    companion = suffix in (".hdr", ".hdr.gz")
    for name in (f"sub-01_T1w{suffix}", f"SUB-01_T1W{suffix.upper()}", f"sub.01{suffix.title()}"):
        assert is_image_name(name) is not companion
        assert suffix_of(name) == suffix
        assert stem(Path("folder.nii") / name) == name[: -len(suffix)]


@pytest.mark.oddity("dot-file")
@pytest.mark.parametrize("name", ["._sub-01_T1w.nii.gz", ".sub-01.nii", ".nii.gz", ".DS_Store"])
def test_hidden_files_are_no_images(name):
    assert not is_image_name(name)


@pytest.mark.parametrize("name", ["sub-01.json", "sub-01.nii.gz.part", "sub-01.dcm", "nii", "sub-01_nii", "a.gz", ""])
def test_other_names_are_no_images(name):
    assert not is_image_name(name)


@pytest.mark.oddity("folder-like-image")
def test_a_walk_takes_files_only_and_passes_over_what_is_hidden(tmp_path):
    inside = tmp_path / "sub-01_T1w.nii.gz"
    inside.mkdir()
    for name in ("b.nii", "B.NII.GZ", "._b.nii", "pair.hdr", "pair.img", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (inside / "sub-01_T1w.nii").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "object.nii").write_bytes(b"x")
    (tmp_path / "absent.nii.gz").symlink_to(".git/annex/objects/no.nii.gz")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["B.NII.GZ", "absent.nii.gz", "b.nii", "pair.img", "sub-01_T1w.nii.gz/sub-01_T1w.nii"]
