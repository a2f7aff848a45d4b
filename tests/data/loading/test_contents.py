from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medssl.data.loading import contents as module
from medssl.data.loading.contents import Began, Contents
from medssl.data.volumes.checksum import file_crc32
from medssl.data.volumes.reference import Stamps
from medssl.errors import UserError

NAMES = [f"m.csv row {k + 2}" for k in range(4)]


@pytest.fixture
def scans(tmp_path: Path) -> list[tuple[Path, ...]]:
    for k in range(4):
        (tmp_path / f"{k}.nii").write_bytes(bytes([k]) * 50)
    return [
        (tmp_path / "0.nii",),
        (tmp_path / "1.nii",),
        (tmp_path / "2.nii", tmp_path / "3.nii"),
        (tmp_path / "3.nii",),
    ]


@pytest.fixture
def kept(scans: list[tuple[Path, ...]]) -> Contents:
    sources = []
    for group in scans:
        source = 0
        for file in group:
            source = file_crc32(file, source)
        sources.append(source)
    return Contents.of(scans, sources, Stamps())


def replaced(path: Path, content: bytes) -> None:
    """Another file of this name, size and time of change, as ``cp -p`` leaves it."""
    state = path.stat()
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(path)


def test_contents_come_back_from_their_file_and_the_digest_does_not_depend_on_the_place(kept, scans, tmp_path) -> None:
    assert Contents.parse(kept.to_csv(), tmp_path / "scans.csv") == kept
    elsewhere = [tuple(tmp_path / "copy" / file.name for file in group) for group in scans]
    (tmp_path / "copy").mkdir()
    for file in tmp_path.glob("*.nii"):
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    moved = kept.still(elsewhere, NAMES, Stamps(), tmp_path / "run", progress=False)
    assert moved.digest == kept.digest
    assert moved.states != kept.states


def test_nothing_is_read_where_nothing_was_touched(kept, scans, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "content_crc", None)
    assert kept.still(scans, NAMES, Stamps(), tmp_path / "run", progress=False) == kept


@pytest.mark.parametrize(("file", "named"), [("0.nii", ["m.csv row 2"]), ("3.nii", ["m.csv row 4", "m.csv row 5"])])
def test_scans_of_equal_size_and_time_that_hold_something_else_are_named(kept, scans, tmp_path, file, named) -> None:
    replaced(tmp_path / file, b"x" * 50)
    with pytest.raises(UserError, match=r"hold(s)? something else than when .*run was started") as caught:
        kept.still(scans, NAMES, Stamps(), tmp_path / "run", progress=False)
    said = str(caught.value)
    assert [name for name in NAMES if name in said] == named
    assert said.startswith(f"{len(named)} training scan")
    replaced(tmp_path / file, bytes([int(file[0])]) * 50)
    assert kept.still(scans, NAMES, Stamps(), tmp_path / "run", progress=False).digest == kept.digest


def test_many_changed_scans_are_counted(scans, tmp_path) -> None:
    many = [scans[0]] * 9
    kept = Contents.of(many, [file_crc32(scans[0][0])] * 9, Stamps())
    replaced(scans[0][0], b"y" * 50)
    with pytest.raises(UserError, match=r"9 training scans hold .*; and 6 more\); restore them"):
        kept.still(many, [str(k) for k in range(9)], Stamps(), tmp_path / "run", progress=False)


def test_other_numbers_of_scans_and_other_manifests_are_refused(kept, scans, tmp_path) -> None:
    with pytest.raises(UserError, match="started on 4 training scans, but there are 3 now"):
        kept.still(scans[:3], NAMES, Stamps(), tmp_path / "run")
    with pytest.raises(UserError, match=r"the manifest changed since .*hash aaaa before, bbbb now"):
        Began(tmp_path, "aaaa", kept).same_manifest("bbbb")
    with pytest.raises(UserError, match=r"bbbb now\): .*m\.csv; restore it"):
        Began(tmp_path, "aaaa", kept).same_manifest("bbbb", [tmp_path / "m.csv"])


HEAD = "scan,crc32,state"


@pytest.mark.parametrize("text", ["", "a,b\n", f"{HEAD}\n0,1,2\n", f"{HEAD}\n1,00000000,a\n", f"{HEAD}\nx\n"])
def test_a_file_of_another_form_is_one_sentence(text, tmp_path) -> None:
    with pytest.raises(UserError, match=r"scans\.csv .*; restore it, or start a new run"):
        Contents.parse(text, tmp_path / "scans.csv")


def test_entries_made_from_other_bytes_are_found(kept) -> None:
    sources = [int(checksum, 16) for checksum in kept.checksums]
    assert kept.differing(sources) == []
    assert kept.differing(list(np.array(sources) ^ [0, 1, 0, 0])) == [1]
