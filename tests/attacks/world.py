"""A small world of everything that medssl writes and reads, and the command in this process."""

from __future__ import annotations

import functools
import io
import os
import resource
import shutil
import signal
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
import typer
import yaml

from medssl import cli, stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.folds import split_cohort
from medssl.errors import StoppedByHand
from medssl.report import pictures
from medssl.runs.network import network_of
from medssl.training.monitors import Monitor
from tests.conftest import tiny_recipe
from tests.export.conftest import make_run

QUICK = ("monitors.map=false", "optim.warmup=0.5", "trainer.keep_checkpoints=2")


class Told(NamedTuple):
    """What a command left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


class Hangs(BaseException):
    """A command took longer than ``PATIENCE_S``."""


PATIENCE_S = 300
"""Seconds on the clock, which a busy machine makes many of."""
_BLANK = b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"></svg>'
"""What stands for a picture, whose layout by matplotlib takes longer than the training that it is of."""
MEMORY = 6 * 2**30
"""Address space in bytes that a command may take beyond what the process holds."""


_parser = functools.cache(typer.main.get_command)
"""The command line is laid out once for all attacks, which takes as long as most of them."""


def medssl(*arguments: object, drawn: bool = False) -> Told:
    """``medssl ARGUMENTS`` in this process, with limits of time and memory; drawn: with the pictures of reports."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv, code = ["medssl", *map(str, arguments)], None
    try:
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            warnings.catch_warnings(),
            _limits(),
            nullcontext() if drawn else _no_pictures(),
            patch.object(typer.main, "get_command", _parser),
        ):
            cli.main()
    except Hangs:
        return Told(-1, out.getvalue(), f"{err.getvalue()}\nhangs")
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    return Told(int(code or 0), out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class World:
    """``home`` holds the files in the state in which ``restore`` puts them back."""

    home: Path
    pristine: Path
    trained_on: frozenset[Path]
    """Entries of the cache whose voxels a training reads; of those of test scans it only reads the header."""

    @functools.cached_property
    def built(self) -> dict[str, tuple[int, ...]]:
        """Stamps of what was built, which nothing changes."""
        return _stamps(self.pristine)

    def restore(self) -> None:
        """Put back what differs from what was built, at the same path, since runs keep absolute paths."""
        built, here = self.built, _stamps(self.home)
        for name in sorted(here.keys() - built.keys(), reverse=True):  # what a folder holds comes before the folder
            path = self.home / name
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in sorted(built):
            source, path = self.pristine / name, self.home / name
            if here.get(name) == built[name]:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            if source.is_dir():
                path.mkdir()
            else:
                path.unlink(missing_ok=True)
                shutil.copy2(source, path, follow_symlinks=False)

    def names(self) -> set[str]:
        """Of everything that is there now."""
        return set(_stamps(self.home))

    def files(self) -> list[Path]:
        """All files, relative to the home, sorted."""
        found = (p.relative_to(self.pristine) for p in self.pristine.rglob("*") if p.is_file())
        return sorted(p for p in found if p.name != ".lock")


def _stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    """Kind, size and time of change of everything below a folder; of a folder only that it is one."""
    stamps = {}
    waiting, skipped = [str(folder)], len(str(folder)) + 1
    while waiting:
        for entry in os.scandir(waiting.pop()):
            facts = entry.stat(follow_symlinks=False)
            name = entry.path[skipped:]
            if entry.is_dir(follow_symlinks=False):
                stamps[name] = (stat.S_IFMT(facts.st_mode),)
                waiting.append(entry.path)
            else:
                stamps[name] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
    return stamps


def build_world(folder: Path, cohort: Path) -> World:
    """Cohort (a copy of a folder), cache, a finished and a stopped run, features, scores, report, study, submission."""
    home = folder / "home"
    home.mkdir()
    manifest = shutil.copytree(cohort, home / "cohort") / "manifest.csv"
    with _variable("MEDSSL_CACHE", home / "cache"), _no_pictures():
        common = [*tiny_recipe(manifest, home / "run"), *QUICK, "trainer.epochs=2", f"data.cache={home / 'cache'}"]
        run = stages.pretrain("exponential", *common, progress=False)
        trained_on = _entries_trained_on(run, home)
        stages.score(run, resamples=20, references=False, progress=False)
        stages.report(run)
        stopped = [*common, f"output={home / 'stopped'}", "trainer.checkpoint_steps=1", "monitors.every=1"]
        with _ctrl_c_after_the_first_epoch(), suppress(KeyboardInterrupt, StoppedByHand):
            stages.pretrain("exponential", *stopped, progress=False)
        (home / "my.yaml").write_text((home / "stopped" / "recipe.yaml").read_text())
        _regions(home / "regions.csv")
        (home / "study.yaml").write_text(yaml.safe_dump(STUDY))
        study = ["study", "run", home / "study.yaml", "--data", home / "regions.csv", "-o", home / "study"]
        medssl(*study, "--task", "0", "--of", "1")
        (home / "preset.yaml").write_text(yaml.safe_dump(PRESET))
    spec = {"name": "mlp", "hidden": [9, 8], "norm": "batch"}
    make_run(home / "roi", "vbm_roi", spec, {"mask": "none"}, layout=(284, 1, 1))
    medssl("openbhb", "export", home / "roi", "-o", home / "submission")
    for name in ("null", "zero", "full"):  # links: whoever runs this as root keeps the devices, whatever is replaced
        (home / name).symlink_to(f"/dev/{name}")
    world = World(home, folder / "pristine", trained_on)
    shutil.copytree(home, world.pristine, symlinks=True)
    return world


SMALL = ["data.columns=['*_thickness']", "trainer.epochs=1", "data.batch_size=16", "encoder.hidden=[8, 4]"]
STUDY = {
    "title": "Attacked",
    "recipe": "exponential_roi",
    "changes": [*SMALL, "trainer.accelerator=cpu", "monitors.every=0", "monitors.map=false"],
    "grid": {"method.temperature": [0.1, 0.5]},
}
PRESET = {
    "title": "Attacked",
    "recipe": "exponential_roi",
    "changes": [*SMALL, "trainer.accelerator=cpu"],
    "encoders": {"mlp": []},
    "rows": {"L_exp": ["method.projector=[8, 4]"]},
    "designs": {"sites": 2},
    "seeds": 1,
    "quick": {"rows": ["L_exp"], "encoders": ["mlp"], "designs": ["sites"]},
}


def _entries_trained_on(run: Path, home: Path) -> frozenset[Path]:
    network, cache = network_of(run, False), VolumeCache(home / "cache")
    cohort = Cohort.read(network.manifests)
    keys = cache.keys(cohort.files(cohort.rows("train")), network.preprocessing)
    return frozenset(cache.path(key).relative_to(home) for key in keys)


def _regions(path: Path) -> None:
    rng = np.random.default_rng(3)
    age = rng.uniform(20, 80, 80).round(1)
    table = pd.DataFrame({"participant_id": [f"p{k:03d}" for k in range(80)], "session": "1", "age": age})
    table["site"] = [f"s{k % 8}" for k in range(80)]
    for k in range(6):
        table[f"r{k}_thickness"] = 2.5 - 0.01 * age + 0.1 * rng.normal(size=80)
    table["split"] = split_cohort(table, seed=5)
    table.to_csv(path, index=False)


def _no_pictures() -> AbstractContextManager[object]:
    return patch.object(pictures, "figure_bytes", lambda fig, kind, **_: _BLANK)


@contextmanager
def _limits() -> Iterator[None]:
    """Time and memory, where the system has such limits; most of the odd numbers would take all there is."""

    def stop(*_: object) -> None:
        raise Hangs

    former = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _variable(name: str, value: Path) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = str(value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _ctrl_c_after_the_first_epoch() -> Iterator[None]:
    original = Monitor.on_epoch

    def stop(self: Monitor, *arguments: object, **named: object) -> object:
        original(self, *arguments, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    Monitor.on_epoch = stop  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Monitor.on_epoch = original  # type: ignore[method-assign]
