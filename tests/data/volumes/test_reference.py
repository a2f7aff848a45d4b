from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.data.loading.cache import VolumeCache
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import PARTS, Reference, Stamps, parse, stamp, summary
from medssl.data.volumes.volume import read_header, read_volume
from medssl.errors import VolumeError


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("row", [None, 0, 3226])
def test_a_reference_is_written_as_it_is_read(part: str, row: int | None):
    text = f"/data/a b/train.npy#{part}" + ("" if row is None else f"@{row}")
    assert parse(text) == Reference(Path("/data/a b/train.npy"), part, row)
    assert str(parse(text)) == text
    assert parse(Path(text)) == parse(text)


def test_the_mask_travels_with_the_path_but_not_with_the_name():
    whole = Reference(Path("/d/train.npy"), "vbm", 12, Path("/m/mask.nii.gz"))
    assert parse(whole.path) == whole
    assert (str(whole), whole.name) == ("/d/train.npy#vbm@12", "train.npy#vbm@12")
    assert whole.files == (Path("/d/train.npy"), Path("/m/mask.nii.gz"))


@pytest.mark.parametrize("name", ["scan#1.nii.gz", "a#vbm.nii", "#vbm", "x#vbm@", "x#VBM@1", "x#vbm@-1", "x#t1@3"])
def test_other_hashes_belong_to_the_file_name(name: str):
    assert parse(name) == Reference(Path(name))


def test_only_masked_parts_of_wide_arrays_need_a_mask():
    assert [parse(f"a.npy#{part}@1").needs_mask for part in PARTS] == [True, True, False, False, False, False, False]
    assert not parse("a.npy#vbm").needs_mask


def test_a_row_is_another_entry_of_the_cache_and_a_changed_mask_too(tmp_path: Path):
    data, mask = tmp_path / "train.npy", tmp_path / "mask.nii.gz"
    data.write_bytes(b"x")
    mask.write_bytes(b"y")
    cache, prep = VolumeCache(tmp_path / "cache"), Preprocessing()
    keys = [cache.key([Reference(data, "vbm", row, mask).path], prep) for row in (0, 1)]
    mask.write_bytes(b"longer")
    keys += [cache.key([Reference(data, "vbm", 0, mask).path], prep), cache.key([data], prep)]
    assert len(set(keys)) == 4


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "features.csv"
    path.write_text("participant_id,session,a,b,c\n007,1,1,2,3\n008,1,4.5,5,6\n009,1,,8,9\n")
    return path


def test_a_row_of_a_table_is_its_features_without_ids(table: Path):
    assert read_volume(f"{table}#table@1").data.reshape(-1).tolist() == [4.5, 5.0, 6.0]
    assert read_volume(f"{table}#table@0").data.shape == (1, 3, 1, 1)
    assert read_header(f"{table}#table@0").ras[0] == (3, 1, 1)


@pytest.mark.parametrize(
    ("tail", "words"),
    [("@2", "1 of its 3 features are empty"), ("@9", "has 3 rows below its header"), ("", "no row of the table")],
)
def test_a_row_of_a_table_that_cannot_be_used_is_refused(table: Path, tail: str, words: str):
    with pytest.raises(VolumeError, match=words):
        read_volume(f"{table}#table{tail}")


def test_a_table_with_text_and_an_absent_file_are_refused(tmp_path: Path):
    (tmp_path / "t.csv").write_text("participant_id,a,colour\n1,2,red\n")
    with pytest.raises(VolumeError, match='column "colour" holds text'):
        read_volume(f"{tmp_path}/t.csv#table@0")
    with pytest.raises(VolumeError, match="does not exist"):
        read_volume(f"{tmp_path}/none.npy#vbm@0")


def test_an_array_of_another_shape_than_its_part_is_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((1, 7, 60), np.float32))
    with pytest.raises(VolumeError, match="1 x 7 x 60, but desikan_roi has 7 x 68"):
        read_volume(f"{tmp_path}/x.npy#desikan_roi")
    np.save(tmp_path / "y.npy", np.ones((1, 1, 284), np.float32))
    assert read_volume(f"{tmp_path}/y.npy#vbm_roi").data.shape == (1, 284, 1, 1)


def test_the_system_is_asked_once_for_a_file(tmp_path: Path):
    (tmp_path / "real").mkdir()
    file = tmp_path / "real" / "a.nii"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "alias.nii").symlink_to(file)
    stamps = Stamps()
    said = stamp(tmp_path / "link" / "a.nii", stamps)
    assert said == f"{file}\t5\t{file.stat().st_mtime_ns}"
    assert stamp(str(tmp_path / "alias.nii"), stamps) == said
    file.unlink()
    assert stamp(str(tmp_path / "link" / "a.nii"), stamps) == said
    assert summary(str(tmp_path / "link" / "a.nii"), False, stamps) == "a.nii 5 0"
    assert not stamps.has(str(file))
    assert summary(file, True, stamps) == "a.nii -1 -1"
    with pytest.raises(VolumeError, match=r"a\.nii does not exist"):
        stamp(file, Stamps())
