"""Two real processes that train together: torchrun with gloo on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl.files import in_turn

ROOT = Path(__file__).resolve().parents[1]


def run_pair(module: str, *arguments: str | Path, timeout: float = 400) -> None:
    """``python -m module arguments`` in two processes; fails with what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", module]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """The folder that ``fill`` filled, which all workers of one pytest share."""
    base = factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    out = base / name
    with in_turn(base / f"{name}.lock"):
        if not (out / "done").is_file():
            out.mkdir(exist_ok=True)
            fill(out)
            (out / "done").touch()
    return out
