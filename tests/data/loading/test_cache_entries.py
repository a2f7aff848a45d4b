from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

import medssl.data.loading.cache as module
from medssl.data.loading.cache import BuildCounts, VolumeCache
from medssl.data.loading.cache_entries import MappedEntries, few_bad
from medssl.data.loading.dataset import ScanDataset, collate, plain_batches
from medssl.data.loading.entry_file import HEAD, layout
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume, write_volume
from medssl.errors import UserError, VolumeError

PREP = Preprocessing()


@pytest.fixture
def scans(tmp_path) -> list[tuple[Path, ...]]:
    for k in range(6):
        data = np.random.default_rng(k).normal(size=(6, 7, 8)).astype(np.float32)
        write_volume(tmp_path / "scans" / f"{k}.nii.gz", data, np.eye(4))
    return [(tmp_path / "scans" / f"{k}.nii.gz",) for k in range(6)]


@pytest.fixture
def cache(tmp_path) -> VolumeCache:
    return VolumeCache(tmp_path / "cache")


def dataset(cache, scans, **options) -> ScanDataset:
    return ScanDataset(scans, cache, PREP, {"age": torch.arange(len(scans)).float()}, **options)


def test_preparing_is_building_and_the_common_shape_in_one(cache, scans):
    cache.build(scans[:2], PREP, progress=False)
    made = cache.prepare([*scans, scans[0]], PREP, progress=False)
    assert made.counts == BuildCounts(4, 2)
    assert made.shape == cache.common_shape(scans, PREP) == (1, 6, 7, 8)
    assert made.keys == [cache.key(group, PREP) for group in [*scans, scans[0]]]
    assert cache.prepare(scans, PREP, progress=False).counts == BuildCounts(0, 6)


def test_preparing_names_scans_that_differ_and_scans_that_are_bad(cache, scans, tmp_path):
    write_volume(tmp_path / "other.nii.gz", np.random.default_rng(0).random((5, 7, 8)), np.eye(4))
    with pytest.raises(VolumeError, match=r"row 2 is 6 x 7 x 8, row 3 is 5 x 7 x 8"):
        cache.prepare([scans[0], (tmp_path / "other.nii.gz",)], PREP, progress=False, where=["row 2", "row 3"])
    with pytest.raises(VolumeError, match=r"row 2: .*does not exist"):
        cache.prepare([(tmp_path / "no.nii",)], PREP, progress=False, where=["row 2"])
    with pytest.raises(VolumeError, match="no scan"):
        cache.prepare([], PREP)


def test_volumes_are_the_entries_without_a_copy_and_never_reach_the_file(cache, scans):
    data = dataset(cache, scans)
    wanted = PREP.apply(read_volume(scans[3][0]))
    first = data.volume(3)
    np.testing.assert_array_equal(first.numpy(), wanted)
    assert data.volume(3).data_ptr() == first.data_ptr(), "the map stays open"
    first.add_(1)
    np.testing.assert_array_equal(data.volume(3).numpy(), wanted)
    data.volume(3)[0, 0].zero_()
    np.testing.assert_array_equal(data.volume(3).numpy(), wanted)
    np.testing.assert_array_equal(cache.load(scans[3], PREP), wanted)


def test_only_so_many_maps_stay_open(cache, scans):
    made = cache.prepare(scans, PREP, progress=False)
    entries = MappedEntries(cache.path, most=2)
    for key in made.keys * 2:
        assert entries.tensor(key).shape == (1, 6, 7, 8)
        assert len(entries._held) <= 2
    assert pickle.loads(pickle.dumps(entries))._held == {}


def test_an_entry_that_is_removed_or_damaged_is_built_again(cache, scans):
    made = cache.prepare(scans, PREP, progress=False)
    data = dataset(cache, scans, keys=made.keys)
    cache.path(made.keys[0]).unlink()
    cache.path(made.keys[1]).write_bytes(b"x" * 200)
    for row in (0, 1):
        np.testing.assert_array_equal(data.volume(row).numpy(), PREP.apply(read_volume(scans[row][0])))
    assert MappedEntries(cache.path).tensor("0" * 64) is None


def test_a_new_dataset_sees_a_changed_scan(cache, scans):
    data = dataset(cache, scans)
    old = data.volume(0).clone()
    write_volume(scans[0][0], np.random.default_rng(9).normal(size=(6, 7, 8)).astype(np.float32), np.eye(4))
    assert torch.equal(data.volume(0), old), "a dataset reads one version of a scan"
    new = dataset(cache, scans).volume(0)
    np.testing.assert_array_equal(new.numpy(), PREP.apply(read_volume(scans[0][0])))


def test_half_precision_has_its_own_entries_and_the_stated_error(cache, scans):
    half = VolumeCache(cache.root, dtype="float16")
    assert half.key(scans[0], PREP) != cache.key(scans[0], PREP)
    made = half.prepare(scans, PREP, progress=False)
    assert layout(half.path(made.keys[0]), "float16").dtype == np.float16
    assert layout(half.path(made.keys[0]), "float32") is None
    assert half.path(made.keys[0]).stat().st_size == HEAD + 2 * 6 * 7 * 8
    read = dataset(half, scans).volume(2)
    assert read.dtype == torch.float32
    exact = PREP.apply(read_volume(scans[2][0]))
    np.testing.assert_array_less(np.abs(read.numpy() - exact), np.abs(exact) * 2.0**-11 + 3e-8)
    assert 0 < np.abs(read.numpy() - exact).max() < 0.002
    assert half.prepare(scans, PREP, progress=False).counts == BuildCounts(0, 6)
    assert cache.prepare(scans, PREP, progress=False).counts == BuildCounts(6, 0)


def test_half_precision_refuses_what_it_cannot_hold(tmp_path):
    write_volume(tmp_path / "x.nii", np.linspace(0, 7e4, 60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))
    with pytest.raises(VolumeError, match=r"beyond 65,504.*data\.cache_dtype=float32"):
        VolumeCache(tmp_path / "c", dtype="float16").load([tmp_path / "x.nii"], Preprocessing(intensity="none"))
    with pytest.raises(UserError, match=r"data\.cache_dtype is 'int8'"):
        VolumeCache(tmp_path / "c", dtype="int8")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_batches_hold_the_same_numbers_for_any_number_of_workers(cache, scans, workers, dtype):
    data = dataset(VolumeCache(cache.root, dtype=dtype), scans)
    with plain_batches(data, [np.arange(4), np.arange(4, 6)], workers) as items:
        batches = list(items)
    assert [len(b["index"]) for b in batches] == [4, 2]
    assert torch.equal(torch.cat([b["views"][0] for b in batches]), torch.stack([data.volume(k) for k in range(6)]))
    assert torch.cat([b["meta"]["age"] for b in batches]).tolist() == [0, 1, 2, 3, 4, 5]
    batches[0]["views"][0].zero_()
    assert data.volume(0).any()


def test_collation_is_that_of_torch(cache, scans):
    def maker(x, epoch, scan, repeat):
        return (x * 2, x[:, :3]), {"drawn": torch.tensor([scan])}

    data = dataset(cache, scans, maker=maker)
    items = [data[k, 0] for k in range(3)]
    ours, torchs = collate(items), torch.utils.data.default_collate(items)
    assert ours.keys() == torchs.keys()
    assert all(torch.equal(a, b) for a, b in zip(ours["views"], torchs["views"], strict=True))
    assert torch.equal(ours["target"]["drawn"], torchs["target"]["drawn"])


def slow_build(cache, scans, begun):
    write = VolumeCache._write

    def slow(self, images, prep):
        write(self, images, prep)
        begun.touch()
        time.sleep(0.3)

    VolumeCache._write = slow
    cache.build(scans, PREP, workers=2, progress=False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and kill")
def test_a_build_that_was_killed_does_only_the_rest(cache, scans, tmp_path):
    child = get_context("fork").Process(target=slow_build, args=(cache, scans, tmp_path / "begun"))
    child.start()
    limit = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join(20)
    time.sleep(0.1)  # its workers die with it
    there = cache.usage().entries
    assert 0 < there < 6
    before = {p: p.stat().st_mtime_ns for p in cache.root.rglob("*.npy")}
    assert cache.build(scans, PREP, progress=False) == BuildCounts(6 - there, there)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert module.VolumeCache(cache.root).prepare(scans, PREP, progress=False).counts == BuildCounts(0, 6)


def test_of_many_bad_scans_the_first_are_named_and_the_rest_counted():
    assert few_bad(["a", "b"], 5) == "2 of 5 scans cannot be used: a; b"
    assert few_bad([str(k) for k in range(12)], 20).endswith("; 8; 9; and 2 more")
    long = few_bad(["a" * 400] * 12, 20)
    assert long.count("a" * 400) == 2
    assert long.endswith("and 10 more")
    assert few_bad(["a" * 5000, "b"], 2).endswith("a; and 1 more")  # one is named, however long
