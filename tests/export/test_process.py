"""A foreign estimator.py runs on request alone, and then within limits, without this process's variables."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.export.process import Limits, run_server

GOOD = """
import os
import numpy as np
class Step:
    indices = None
    def predict(self, X):
        return np.asarray(X[:, :2] if self.indices is None else X[list(self.indices), :2])
class Pipe(list):
    def fit(self, X, y): return self
    def predict(self, X): return self[0].predict(X)
def get_estimator(): return Pipe([Step()])
"""
posix = pytest.mark.skipif(os.name != "posix", reason="limits of a process are those of POSIX systems")


def run(source: str, folder: Path, limits: Limits = Limits(60)) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (folder / "submission").mkdir()
    (folder / "submission" / "estimator.py").write_text(source)
    np.save(folder / "x.npy", np.arange(12.0).reshape(3, 4))
    job = {"folder": str(folder / "submission"), "x": str(folder / "x.npy"), "subset": [1, 0]}
    return run_server(job | {"environment": {"VBM_MASK": "m.nii"}}, folder, limits)


def test_a_good_estimator_gives_its_features(tmp_path: Path) -> None:
    report, out = run(GOOD, tmp_path)
    assert report["stage"] == "done"
    assert {key: a.shape for key, a in out.items()} == {
        "none": (3, 2), "subset": (2, 2), "range": (3, 2), "float64": (1, 2)
    }  # fmt: skip


def test_it_sees_no_variable_of_this_process_and_works_in_an_empty_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report, _ = run(GOOD + "raise ValueError(repr(sorted(os.environ)) + os.getcwd())\n", tmp_path)
    assert "VBM_MASK" in report["error"]
    assert "SECRET_TOKEN" not in report["error"]
    assert "PYTHONPATH" not in report["error"]
    assert str(tmp_path) in report["error"]


@posix
def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    child = (
        "import subprocess, sys, time\np = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
    )
    child += "open('pid', 'w').write(str(p.pid))\ntime.sleep(99)\n"
    report, out = run(GOOD + child, tmp_path, Limits(4))
    assert out == {}
    assert report["error"] == "the process was ended after 4 seconds (--seconds)"
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):  # the system takes a moment to bury it
        state = Path(f"/proc/{pid}/stat")
        if not state.is_file() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("a process that it started still runs")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux bounds the memory of a process")
@pytest.mark.parametrize(
    "greedy", ["np.ones(300_000_000)", "bytearray(3_000_000_000)", "__import__('mmap').mmap(-1, 60_000_000_000)"]
)
def test_one_that_takes_too_much_memory_fails(greedy: str, tmp_path: Path) -> None:
    report, out = run(GOOD + f"held = {greedy}\n", tmp_path, Limits(60, memory=1.0))
    assert out == {}
    assert any(words in report["error"] for words in ("Unable to allocate", "MemoryError", "Cannot allocate memory"))


@posix
def test_one_that_computes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 0)  # so that a second of computing is all there is
    monkeypatch.setattr("medssl.export.process.subprocess.Popen.wait", _wait_long)
    report, _ = run(GOOD + "while True: pass\n", tmp_path, Limits(0.2))
    assert "ended by signal" in report["error"]


def _wait_long(self: Any, timeout: float | None = None) -> int:
    return self._wait(timeout=60)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os._exit(3)", "the process ended: exit status 3"),
        ("raise SystemExit('enough')", "the process ended: enough"),
        ("os.write(1, b'x' * 5_000_000); os._exit(1)", "the process ended: xxx"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a b"),
        ("open('report.json', 'w').write('[]'); os._exit(0)", "report.json is a list, but an object"),
        ("open('report.json', 'w').write('[' * 99999); os._exit(0)", "report.json has far too many levels"),
        ("open('report.json', 'w').write('{}'); os._exit(0)", "the process wrote no features"),
        ("open('report.json', 'w').write('{}'); open('results.npz', 'w').write('x'); os._exit(0)", "can be read"),
        (
            "open('report.json', 'w').write('{}')\n"
            "np.savez('results.npz', none=np.array([{}], dtype=object))\nos._exit(0)",
            "no features that can be read",
        ),
        (
            "open('report.json', 'w').write('{}'); np.savez('results.npz', none=np.ones(3)); os._exit(0)",
            "wrote none as",
        ),
    ],
)
def test_one_that_ends_or_writes_something_else_gives_a_sentence(code: str, words: str, tmp_path: Path) -> None:
    report, out = run(GOOD + code + "\n", tmp_path)
    assert out == {}
    assert words in report["error"]
    assert "\n" not in report["error"]


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (float("nan"), 1), (1e9, 1), (1, 0), (1, float("inf"))])
def test_limits_are_above_zero(limits: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="must be above 0"):
        Limits(*limits)
