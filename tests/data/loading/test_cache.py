from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from medssl.data.loading.cache import BuildCounts, VolumeCache
from medssl.data.loading.entry_file import HEAD
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume, write_volume
from medssl.errors import UserError, VolumeError

PREP = Preprocessing()


def make(folder: Path, name: str, seed=0, shape=(6, 7, 8), affine=None) -> Path:
    data = np.random.default_rng(seed).random(shape).astype(np.float32) + 1
    write_volume(folder / name, data, np.eye(4) if affine is None else affine)
    return folder / name


@pytest.fixture
def scans(tmp_path) -> list[tuple[Path, ...]]:
    (tmp_path / "scans").mkdir()
    return [(make(tmp_path / "scans", f"{k}.nii.gz", k),) for k in range(6)]


@pytest.fixture
def cache(tmp_path) -> VolumeCache:
    return VolumeCache(tmp_path / "cache")


def leftovers(cache) -> list[Path]:
    return [p for p in cache.root.rglob("*") if p.is_file() and p.suffix != ".npy"]


def test_an_entry_is_the_preprocessed_scan_read_only_and_memory_mapped(cache, scans):
    first = cache.load(scans[0], PREP)
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, PREP.apply(read_volume(scans[0][0])))
    written = cache.path(cache.key(scans[0], PREP))
    before = written.stat().st_mtime_ns
    np.testing.assert_array_equal(cache.load(scans[0], PREP), first)
    assert written.stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.load(written, allow_pickle=False), first)


def test_several_files_are_channels_in_order(cache, scans):
    both = cache.load((scans[0][0], scans[1][0]), PREP)
    assert both.shape == (2, 6, 7, 8)
    np.testing.assert_array_equal(both[1], cache.load(scans[1], PREP)[0])
    swapped = cache.load((scans[1][0], scans[0][0]), PREP)
    np.testing.assert_array_equal(swapped[0], both[1])


def test_files_of_one_scan_with_different_shapes_are_refused(cache, scans, tmp_path):
    other = make(tmp_path, "t2.nii.gz", shape=(5, 7, 8))
    with pytest.raises(VolumeError, match=r"6 x 7 x 8.*5 x 7 x 8.*preprocessing.spacing"):
        cache.load((scans[0][0], other), PREP)


def test_the_key_follows_file_recipe_and_version(cache, scans, monkeypatch):
    key = cache.key(scans[0], PREP)
    assert len(key) == 64
    assert cache.key(scans[0], Preprocessing()) == key
    assert cache.key(scans[0], Preprocessing(mask="none")) != key
    assert cache.key(scans[1], PREP) != key
    link = scans[0][0].parent / "link.nii.gz"
    link.symlink_to(scans[0][0])
    assert cache.key((link,), PREP) == key
    monkeypatch.setattr("medssl.data.volumes.preprocess.PREPROCESSING_VERSION", 2)
    assert cache.key(scans[0], PREP) != key


def test_a_changed_scan_or_recipe_never_reads_a_stale_entry(cache, scans):
    old = np.array(cache.load(scans[0], PREP))
    make(scans[0][0].parent, scans[0][0].name, seed=99)
    new = cache.load(scans[0], PREP)
    assert not np.array_equal(old, new)
    np.testing.assert_array_equal(new, PREP.apply(read_volume(scans[0][0])))
    assert cache.load(scans[0], Preprocessing(shape=4)).shape == (1, 4, 4, 4)


def test_content_identity_shares_entries_between_copies(tmp_path, scans):
    cache = VolumeCache(tmp_path / "cache", content=True)
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(scans[0][0].read_bytes())
    assert cache.key((copy,), PREP) == cache.key(scans[0], PREP)
    assert cache.key(scans[1], PREP) != cache.key(scans[0], PREP)
    assert VolumeCache(tmp_path).key((copy,), PREP) != VolumeCache(tmp_path).key(scans[0], PREP)


def test_the_root_comes_from_the_argument_the_environment_or_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "env"))
    assert VolumeCache(None).root == tmp_path / "env"
    assert VolumeCache(tmp_path / "mine").root == tmp_path / "mine"
    monkeypatch.delenv("MEDSSL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert VolumeCache().root == tmp_path / ".cache/medssl"


@pytest.mark.parametrize("workers", [None, 0, 1, 3])
def test_a_build_writes_every_entry_once_and_resumes(cache, scans, workers):
    assert cache.build(scans[:2], PREP, workers=workers, progress=False) == BuildCounts(2, 0)
    assert cache.build([*scans, scans[0]], PREP, workers=workers, progress=False) == BuildCounts(4, 2)
    assert cache.build(scans, PREP, workers=workers, progress=False) == BuildCounts(0, 6)
    assert cache.usage().entries == 6
    assert leftovers(cache) == []
    for group in scans:
        np.testing.assert_array_equal(cache.load(group, PREP), PREP.apply(read_volume(group[0])))
    assert cache.build([], PREP) == BuildCounts(0, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_scans_are_listed_by_row_after_all_good_ones_are_built(cache, scans, tmp_path, workers):
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(scans[0][0].read_bytes()[:100])
    groups = [*scans, (torn,), (tmp_path / "none.nii.gz",)]
    with pytest.raises(VolumeError, match="2 of 8 scans") as caught:
        cache.build(groups, PREP, workers=workers, progress=False, where=[f"m.csv row {k + 2}" for k in range(8)])
    said = str(caught.value)
    assert "m.csv row 8: " in said
    assert "torn.nii.gz is truncated" in said
    assert "m.csv row 9: " in said
    assert "none.nii.gz does not exist" in said
    assert cache.usage().entries == 6


def test_long_lists_of_bad_scans_are_cut(cache, tmp_path):
    with pytest.raises(VolumeError, match="15 of 15") as caught:
        cache.build([(tmp_path / f"{k}.nii",) for k in range(15)], PREP, progress=False)
    listed, _, more = str(caught.value).rpartition("; and ")
    named = listed.count("does not exist")
    assert 1 <= named <= 10
    assert more == f"{15 - named} more"


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "header", "dtype"])
def test_damaged_entries_are_noticed_and_rebuilt(cache, scans, damage):
    good = np.array(cache.load(scans[0], PREP))
    entry = cache.path(cache.key(scans[0], PREP))
    content = entry.read_bytes()
    broken = {"cut": content[:-4], "longer": content + b"x", "empty": b"", "header": b"\0" * len(content)}
    if damage == "dtype":
        np.save(entry, good.astype(np.int32))
    else:
        entry.write_bytes(broken[damage])
    assert cache.build(scans[:1], PREP, progress=False) == BuildCounts(1, 0)
    np.testing.assert_array_equal(cache.load(scans[0], PREP), good)
    entry.write_bytes(content[:200])
    np.testing.assert_array_equal(cache.load(scans[0], PREP), good)


def test_no_space_left_is_one_sentence_and_leaves_nothing(cache, scans, monkeypatch):
    def full(file, array, key, source):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("medssl.data.loading.cache.write_entry", full)
    for workers in (1, 2):
        with pytest.raises(UserError, match=r"no space left in .*MEDSSL_CACHE") as caught:
            cache.build(scans, PREP, workers=workers, progress=False)
        assert not isinstance(caught.value, VolumeError)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no space left"):
        cache.load(scans[0], PREP)
    assert [p for p in cache.root.rglob("*") if p.is_file()] == []


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(tmp_path, scans):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written.*MEDSSL_CACHE"):
        VolumeCache(tmp_path / "file" / "cache").load(scans[0], PREP)


def test_an_interrupt_while_writing_leaves_no_file(cache, scans, monkeypatch):
    def interrupted(file, array, key, source):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("medssl.data.loading.cache.write_entry", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.load(scans[0], PREP)
    assert [p for p in cache.root.rglob("*") if p.is_file()] == []


def test_prune_keeps_the_named_entries_and_touches_nothing_else(cache, scans):
    cache.build(scans, PREP, progress=False)
    (cache.root / "notes.txt").write_text("mine")
    (cache.root / "ab").mkdir(exist_ok=True)
    (cache.root / "ab" / "mine.npy").write_bytes(b"mine")
    before = cache.usage()
    assert before.entries == 6
    assert before.bytes == 6 * (HEAD + 6 * 7 * 8 * 4)
    keep = {cache.key(group, PREP) for group in scans[:2]}
    gone = cache.prune(keep)
    assert (gone.entries, gone.temporaries) == (4, 0)
    assert gone.bytes == 4 * (HEAD + 6 * 7 * 8 * 4)
    assert cache.build(scans[:2], PREP, progress=False) == BuildCounts(0, 2)
    assert cache.prune(None).entries == 2
    assert cache.usage().entries == 0
    assert (cache.root / "notes.txt").exists()
    assert (cache.root / "ab" / "mine.npy").exists()
    assert VolumeCache(cache.root / "nowhere").usage() == (0, 0, 0)


def test_a_common_shape_is_read_from_headers_and_entries_alone(cache, scans, monkeypatch):
    cache.build(scans[:2], PREP, progress=False)
    monkeypatch.setattr("medssl.data.loading.cache.read_volume", None)
    assert cache.common_shape(scans, PREP) == (1, 6, 7, 8)
    assert cache.common_shape([(scans[0][0], scans[3][0])], PREP) == (2, 6, 7, 8)
    assert cache.common_shape(scans, Preprocessing(spacing=2)) == (1, 3, 4, 4)
    assert cache.common_shape(scans, Preprocessing(shape=(9, 9, 9))) == (1, 9, 9, 9)


def test_different_shapes_are_refused_with_two_rows_and_the_remedy(cache, scans, tmp_path):
    other = make(tmp_path, "other.nii.gz", shape=(6, 7, 9))
    turned = make(tmp_path, "turned.nii.gz", shape=(8, 7, 6), affine=np.eye(4)[[2, 1, 0, 3]])
    where = ["m.csv row 2 (a)", "m.csv row 3 (b)", "m.csv row 4 (c)"]
    with pytest.raises(VolumeError) as caught:
        cache.common_shape([scans[0], (turned,), (other,)], PREP, where)
    for part in ("m.csv row 2 (a) is 6 x 7 x 8", "m.csv row 4 (c) is 6 x 7 x 9", "set preprocessing.shape"):
        assert part in str(caught.value)
    assert cache.common_shape([scans[0], (other,)], Preprocessing(shape=8)) == (1, 8, 8, 8)
    with pytest.raises(VolumeError, match="different numbers of channels"):
        cache.common_shape([scans[0], (other, other)], Preprocessing(shape=8), where)
    with pytest.raises(VolumeError, match="no scan"):
        cache.common_shape([], PREP)


def test_a_scan_that_changes_while_it_is_read_makes_no_entry(cache, scans, monkeypatch):
    def read(path):
        volume = read_volume(path)
        os.utime(path, ns=(1, 1))
        return volume

    monkeypatch.setattr("medssl.data.loading.cache.read_volume", read)
    with pytest.raises(VolumeError, match="changed while it was read"):
        cache.load(scans[0], PREP)
    assert cache.usage().entries == 0


def test_a_folder_whose_name_is_no_text_is_refused():
    with pytest.raises(UserError, match=r"'/tmp/\\udcff', has a name that is not UTF-8"):
        VolumeCache("/tmp/\udcff")
