"""Runs a submission in a process of its own: without medssl, without this process's variables, and within limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from medssl.documents.json_file import read_json
from medssl.errors import UserError
from medssl.export import server
from medssl.files import BROKEN_ARRAYS, said, write_atomic

_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "OMP_NUM_THREADS")
"""Variables without which libraries are not found, or use more threads than they may."""
_LARGEST_RESULTS = 1 << 30
_ARRAYS = {"none", "subset", "range", "float64"}
_REMEDY = "set TMPDIR to another disk"
_AGAIN = "run the check again"


@dataclass(frozen=True)
class Limits:
    """What the process may use. seconds: of the clock. memory: GB that it may hold (on Linux)."""

    seconds: float = 600.0
    memory: float = 16.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds < 1e6:
            raise UserError(f"seconds is {self.seconds:g}, but must be above 0 and below 1,000,000")
        if not 0 < self.memory < 1e6:
            raise UserError(f"memory is {self.memory:g} GB, but must be above 0 and below 1,000,000")


class Report(TypedDict, total=False):
    """What the process writes down; of each stage also ``seconds_STAGE``."""

    stage: str
    error: str
    fit_returns_self: bool
    steps_with_indices: int
    peak_mb: float | None
    blocked: list[str]


def run_server(job: dict[str, Any], scratch: Path, limits: Limits) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the process said, and the arrays that it made; it works in ``scratch``, where all its files are.

    A process that dies, hangs or writes something else gives an "error" and no arrays.
    """
    report, results = scratch / "report.json", scratch / "results.npz"
    job = job | {"report": str(report), "results": str(results)}
    job |= {"cpu_seconds": limits.seconds * (os.cpu_count() or 1), "memory_bytes": limits.memory * 1e9}
    write_atomic(scratch / "job.json", json.dumps(job), _REMEDY)
    ended = _run(scratch, limits.seconds)
    if not report.is_file():
        return {"stage": "import", "error": ended}, {}
    try:
        said: dict[str, Any] = dict(read_json(report, Report, _AGAIN, nan=True))
        if "error" in said:
            return said, {}
        return said, _arrays(results)
    except UserError as problem:
        return {"stage": "import", "error": str(problem)}, {}


def _run(scratch: Path, seconds: float) -> str:
    """Start the process, wait for it and end everything that it started; how it ended."""
    command = [sys.executable, "-I", "-B", str(Path(server.__file__).resolve()), str(scratch / "job.json")]
    with said(scratch / "output.txt", _REMEDY), (scratch / "output.txt").open("w+b") as output:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=_environment(scratch),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"the process was ended after {seconds:g} seconds (--seconds)"
        finally:
            _end(process)
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
        lines = output.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode < 0:
        return f"the process was ended by signal {-process.returncode}, as where a limit of time or memory is reached"
    last = lines[-1].strip() if lines else f"exit status {process.returncode}"
    return f"the process ended: {last:.300}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those of its session, whether it has ended or not."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _environment(scratch: Path) -> dict[str, str]:
    """Variables of the process: none of this one's but those that libraries need, so no token or password."""
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own |= {name: str(scratch) for name in ("HOME", "TMPDIR", "TEMP", "TMP")}
    return own | {"PATH": os.defpath, "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The four arrays of a results.npz; UserError where the process wrote something else."""
    try:
        if not path.is_file():
            raise UserError(f"the process wrote no features; {_AGAIN}")
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _LARGEST_RESULTS:
            raise UserError(f"the features fill {size / 1e9:.1f} GB; {_AGAIN}")
        with np.load(path, allow_pickle=False) as arrays:
            out = {key: arrays[key] for key in arrays.files}
    except UserError:
        raise
    except BROKEN_ARRAYS as problem:
        raise UserError(f"the process wrote no features that can be read ({problem}); {_AGAIN}") from problem
    if set(out) != _ARRAYS:
        raise UserError(f"the process wrote {', '.join(sorted(out)) or 'nothing'} as features; {_AGAIN}")
    return out
