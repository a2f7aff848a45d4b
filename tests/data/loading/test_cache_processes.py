from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import medssl.data.loading.cache as module
from medssl.data.loading.cache import BuildCounts, VolumeCache
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume, write_volume

PREP = Preprocessing()
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and POSIX signals")


@pytest.fixture
def scans(tmp_path) -> list[tuple[Path, ...]]:
    for k in range(6):
        data = np.random.default_rng(k).random((6, 7, 8)).astype(np.float32)
        write_volume(tmp_path / "scans" / f"{k}.nii.gz", data, np.eye(4))
    return [(tmp_path / "scans" / f"{k}.nii.gz",) for k in range(6)]


@pytest.fixture
def cache(tmp_path) -> VolumeCache:
    return VolumeCache(tmp_path / "cache")


def leftovers(cache) -> list[Path]:
    return [p for p in cache.root.rglob("*") if p.is_file() and p.suffix != ".npy"]


def build_slowly(cache, scans, begun: Path, seconds: float, workers: int) -> None:
    """A build that stops for a while in the middle of every file."""
    write = module.write_entry

    def slow(file, array, key, source):
        file.write(b"half")
        file.flush()
        begun.touch()
        time.sleep(seconds)
        file.seek(0)
        write(file, array, key, source)

    module.write_entry = slow
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache.build(scans, PREP, workers=workers, progress=False)


def start(*arguments) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=build_slowly, args=arguments)
    child.start()
    return child


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 20
    while not path.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    assert path.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_build_with_whole_entries_only(cache, scans, tmp_path, workers):
    begun = tmp_path / "begun"
    child = start(cache, scans, begun, 0.3, workers)
    wait_for(begun)
    os.kill(child.pid, signal.SIGINT)
    child.join(30)
    assert child.exitcode not in (0, None)
    assert leftovers(cache) == []
    counts = cache.build(scans, PREP, progress=False)
    assert counts.built + counts.present == 6
    assert counts.built >= 1


def test_what_a_killed_process_leaves_is_never_read_and_is_pruned(cache, scans, tmp_path):
    begun = tmp_path / "begun"
    child = start(cache, scans, begun, 30, 1)
    wait_for(begun)
    assert cache.usage().temporaries == 1
    assert cache.prune(set()).temporaries == 0  # its writer lives
    child.kill()
    child.join(30)
    assert cache.usage() == (0, 4, 1)
    np.testing.assert_array_equal(cache.load(scans[0], PREP), PREP.apply(read_volume(scans[0][0])))
    gone = cache.prune({cache.key(scans[0], PREP)})
    assert (gone.entries, gone.bytes, gone.temporaries) == (0, 4, 1)
    assert leftovers(cache) == []
    assert cache.usage().entries == 1


def test_several_processes_may_build_the_same_entries_at_once(cache, scans, tmp_path):
    children = [start(cache, scans, tmp_path / f"begun{k}", 0.02, 1) for k in range(3)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert leftovers(cache) == []
    assert cache.build(scans, PREP, progress=False) == BuildCounts(0, 6)
    for group in scans:
        np.testing.assert_array_equal(cache.load(group, PREP), PREP.apply(read_volume(group[0])))


def test_a_script_without_main_guard_may_build_in_parallel(cache, scans, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from medssl.data.loading.cache import VolumeCache\nfrom medssl.data.volumes.preprocess import Preprocessing\n"
        "scans = [(path,) for path in Path(sys.argv[1]).iterdir()]\n"
        "print(tuple(VolumeCache(sys.argv[2]).build(scans, Preprocessing(), workers=2)))\n"
    )
    command = [sys.executable, str(script), str(scans[0][0].parent), str(cache.root)]
    here = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=here)
    assert done.stdout.strip() == "(6, 0)", done.stderr
    assert done.stderr == ""  # no terminal, no bar
