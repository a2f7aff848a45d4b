"""Runs a submission as the challenge's server does; started as a program of its own, it never imports medssl.

Usage: python server.py JOB.json. The job names the folder, an array X (.npy, rows of the challenge), the rows of a
subset, the variables to set, limits of memory and time, and where to write what happened (JSON) and came out (npz).
It unpickles nothing: metadata.pkl is read by the process that starts this one, see metadata.py.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BLOCKED = ("medssl", "monai")


class _Blocker(importlib.abc.MetaPathFinder):
    """Whatever is not on the server cannot be imported."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Raise ImportError for a blocked package; None (ask the next finder) for all others."""
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not on the server")


def _peak_mb() -> float | None:
    """Most memory that this process held so far, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def limit(memory_bytes: float, cpu_seconds: float) -> None:
    """Bound what this process may hold, compute and write, as far as the system can.

    Libraries map far more addresses than they use, so the bound on addresses, which also covers memory that is shared
    between processes, is 32 GB wider than the one on memory.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    bounds = {
        "RLIMIT_DATA": memory_bytes,
        "RLIMIT_AS": memory_bytes + 32e9,
        "RLIMIT_CPU": cpu_seconds + 1,
        "RLIMIT_FSIZE": 2e9,
        "RLIMIT_CORE": 0,
    }
    for name, bound in bounds.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        most = resource.getrlimit(kind)[1]
        value = int(bound) if most == resource.RLIM_INFINITY else min(int(bound), most)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):  # a system that has the name and not the limit
            continue


def _load(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("estimator", folder / "estimator.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / 'estimator.py'} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _predict(estimator: Any, x_NV: Any, indices: Any) -> Any:
    """What the server does before each predict: set ``indices`` on every step that has them."""
    for step in estimator:
        if hasattr(step, "indices"):
            step.indices = indices
    return estimator.predict(x_NV)


def serve(job: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Arrays by name; ``said`` collects what is known so far, with the stage that is running under "stage"."""
    os.environ.update(job["environment"])
    sys.meta_path.insert(0, _Blocker())
    said["stage"] = "import"
    import numpy as np

    module = _load(Path(job["folder"]))
    said["stage"] = "fit"
    estimator = module.get_estimator()
    said["fit_returns_self"] = estimator.fit(None, None) is estimator
    said["steps_with_indices"] = sum(hasattr(step, "indices") for step in estimator)
    x_NV = np.load(job["x"], mmap_mode="r", allow_pickle=False)
    out = {}
    calls = {"none": None, "subset": np.array(job["subset"]), "range": range(len(x_NV))}
    for name, indices in calls.items():
        said["stage"] = name
        start = time.perf_counter()
        out[name] = np.asarray(_predict(estimator, x_NV, indices))
        said[f"seconds_{name}"] = time.perf_counter() - start
    said["peak_mb"] = _peak_mb()
    said["stage"] = "float64"
    out["float64"] = np.asarray(_predict(estimator, np.asarray(x_NV[:1], np.float64), None))
    said["blocked"] = sorted(name for name in BLOCKED if name in sys.modules)
    said["stage"] = "done"
    return out


def main(path: str) -> None:
    """Serve one job; a failure is written down, with the stage in which it came."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    limit(job["memory_bytes"], job["cpu_seconds"])
    said: dict[str, Any] = {}
    try:
        out = serve(job, said)
        import numpy as np

        np.savez(job["results"], **out)
    except Exception as problem:
        said["error"] = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    Path(job["report"]).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
