"""Run tests against copies of the project that hold one mistake each; the project itself is only read.

A worker loads the libraries once and forks for every mutant, whose process imports medssl from its own copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.mutant import Group, Mutant

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("medssl", "tests", "configs", "pyproject.toml")
LIBRARIES = (
    "torch", "numpy", "pandas", "scipy.stats", "scipy.ndimage", "sklearn.cluster", "sklearn.metrics",
    "sklearn.linear_model", "monai.networks.nets", "monai.networks.nets.resnet", "monai.transforms",
    "pytorch_lightning", "pydantic", "yaml", "safetensors.torch", "nibabel", "pytest", "torch.distributed",
)  # fmt: skip
LIMIT = 900.0
"""Seconds after which tests that hang count as failed."""
PASSED, FAILED, NONE = 0, 1, 5


Job = tuple[int, "Mutant | None", str, list[str]]
"""Number, mutant (None: the project as it is), name of the outcome, tests."""


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one mutant: pytest's code (FAILED is a catch), seconds, the test that failed first."""

    mutant: str
    code: int
    seconds: float
    by: str = ""

    @property
    def caught(self) -> bool:
        """Whether a test failed."""
        return self.code == FAILED

    def sentence(self, mutant: Mutant | None) -> str:
        """One line of progress."""
        if mutant is None:
            return f"{'passed' if self.code == PASSED else 'FAILED'}  {self.mutant} ({self.seconds:.0f} s)"
        word = "caught  " if self.caught else "survived"
        why = self.by or mutant.equivalent or (f"pytest ended with {self.code}" if self.code else "")
        return f"{word}  {mutant.name} ({self.seconds:.0f} s){': ' if why else ''}{why}"


def digest() -> str:
    """Of everything that the run depends on."""
    whole = hashlib.sha256(sys.version.encode())
    for path in sorted(file for part in PARTS for file in _files(ROOT / part)):
        whole.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def copy_tree(to: Path) -> Path:
    """A copy of the project in a folder."""
    to.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source, target = ROOT / part, to / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    return to


def load_libraries() -> None:
    """Import what is slow and is not the project, so that forks have it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def outcome(name: str, tree: Path, selection: Sequence[str], log: Path) -> Outcome:
    """What these tests say of the tree, in a process of their own."""
    begin = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    child = multiprocessing.get_context("fork").Process(target=_tests, args=(tree, list(selection), log))
    child.start()
    child.join(LIMIT)
    if child.exitcode is None:
        child.kill()
        child.join()
        return Outcome(name, FAILED, time.monotonic() - begin, f"it hangs for {LIMIT:.0f} s")
    lines = log.read_text(errors="replace").splitlines()
    first = next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), "")
    short = first.partition(" - ")[0].partition("::")[2] or first
    return Outcome(name, _code(child.exitcode, short), time.monotonic() - begin, short)


def _code(code: int, failed: str) -> int:
    """Code of pytest; an import that fails (2 with an error) is a failure too, and a dead process is."""
    return FAILED if code < 0 or (code not in (PASSED, FAILED) and failed) else code


def _tests(tree: Path, selection: list[str], log: Path) -> None:
    with log.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]  # the runner's own
    sys.path[:] = [str(tree), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    importlib.invalidate_caches()
    import pytest
    import torch

    torch.set_num_threads(1)
    code = int(pytest.main([*selection, "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-rfE", "--tb=line"]))
    sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def mistaken(tree: Path, mutant: Mutant, number: int) -> Iterator[None]:
    """The tree holds the mistake meanwhile; times of files differ, so that no compiled file is taken for another."""
    path = tree / mutant.file
    plain = path.read_text()
    path.write_text(mutant.applied(tree))
    os.utime(path, (1_000_000_000 + 2 * number,) * 2)
    try:
        yield
    finally:
        path.write_text(plain)
        os.utime(path, (1_000_000_001 + 2 * number,) * 2)


class Records:
    """Outcomes by mutant, a line of JSON each, kept so that a run that was stopped goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Outcome]:
        """What is known; a last line that was cut off is left out."""
        known = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                found = Outcome(**json.loads(line))
                known[found.mutant] = found
        return known

    def add(self, found: Outcome) -> None:
        """One more line."""
        with self.path.open("a") as out:
            out.write(json.dumps(found.__dict__) + "\n")


def jobs_of(mutants: Sequence[Mutant], group: Group | None) -> list[Job]:
    """Every mutant, then the same tests (whole files, once each) on the project as it is."""
    chosen = [m for m in mutants if group is None or (m.own if group == "own" else m.names)]
    jobs: list[Job] = [(n, m, m.name, m.selection(group)) for n, m in enumerate(chosen, 1)]
    files = {argument for *_, tests in jobs for argument in tests if argument.startswith("tests/")}
    return [*jobs, *((0, None, f"as it is: {file}", [file]) for file in sorted(files))]


def run(jobs: Sequence[Job], records: Records, workers: int) -> dict[str, Outcome]:
    """Outcomes of all jobs, a line of progress each; what is recorded is not run again."""
    known = records.read()
    waiting = [job for job in jobs if job[2] not in known]
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} are known from before, in {records.path}")
    mutants = {job[2]: job[1] for job in jobs}
    load_libraries()
    context = multiprocessing.get_context("fork")
    taken, done = context.Value("i", 0), context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="medssl-mutants-") as folder:
        helpers = [context.Process(target=_work, args=(Path(folder), n, waiting, taken, done)) for n in range(workers)]
        for helper in helpers:
            helper.start()
        for number in range(1, len(waiting) + 1):
            while done.empty():
                if not any(helper.is_alive() for helper in helpers) and done.empty():
                    raise SystemExit("the workers ended before their work; start the run again, it goes on from here")
                time.sleep(0.05)
            found = done.get()
            known[found.mutant] = found
            records.add(found)
            print(f"{number}/{len(waiting)}  {found.sentence(mutants[found.mutant])}", flush=True)
        for helper in helpers:
            helper.join()
    return known


def _work(folder: Path, number: int, jobs: Sequence[Job], taken: Any, done: Any) -> None:
    """Take the next job until there is none, in a copy of the project of this worker's own."""
    tree, log = copy_tree(folder / f"worker-{number}"), folder / f"worker-{number}.log"
    while True:
        with taken.get_lock():
            mine, taken.value = taken.value, taken.value + 1
        if mine >= len(jobs):
            return
        place, mutant, name, tests = jobs[mine]
        with mistaken(tree, mutant, place) if mutant else contextlib.nullcontext():
            found = outcome(name, tree, tests, log)
        done.put(found)
