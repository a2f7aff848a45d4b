"""Trainings in processes of their own that kill themselves at a chosen place, and what a run folder holds."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pkgutil
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.ready import finished, start

VARYING = {
    "run.json": ("id", "created", "finished", "command", "continued"),
    "logs/train": ("scans_per_s",),
    "checkpoints": ("identity.run",),
}
"""What may differ between a run that was killed and continued, and one that was not: names, times, a rate."""

KNOWN = re.compile(
    r"run\.json|recipe\.yaml|scans\.csv|scan-digests\.json|encoder\.safetensors|projection\.safetensors|views\.npz|report\.html"
    r"|logs/(train|probe|messages)\.(csv|jsonl)|logs/map-epoch\d{4}\.(csv|png)|logs/tensorboard/events\..*"
    r"|checkpoints/step-\d{8}\.ckpt"
)
"""Artefacts of a run. A new one fails the test until it is compared here."""


def train(
    arguments: list[str], place: str = "", resume: Path | None = None, *, forgetful: bool = False, page: bool = False
) -> int:
    """Exit code of a training in another process that kills itself at ``place``; negative: the signal that ended it."""
    return finished(start(train_here, arguments, place, resume, forgetful, page))[0]


def train_here(
    arguments: list[str], place: str = "", resume: Path | None = None, forgetful: bool = False, page: bool = False
) -> None:
    """The same in this process, which does not return where it kills itself; 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from medssl import stages

    with contextlib.ExitStack() as stack:
        if place:
            stack.enter_context(PLACES[place]())
        if forgetful:
            stack.enter_context(mock.patch("medssl.training.monitors.Monitor.recall"))
        try:
            if resume is None:
                stages.pretrain(*arguments, progress=False, page=page)
            else:
                stages.pretrain(resume=resume, progress=False, page=page)
        except KeyboardInterrupt:
            os._exit(130)


def die(number: int = signal.SIGKILL) -> None:
    """End this process as from outside."""
    os.kill(os.getpid(), number)
    signal.pause()


@contextlib.contextmanager
def _calling(name: str, count: int, before: bool, act: Callable[..., None]) -> Iterator[None]:
    """Let ``act`` get the arguments of the ``count``-th call of a function, before or after it."""
    module, _, leaf = name.rpartition(".")
    owner: Any = pkgutil.resolve_name(module)
    real, calls = getattr(owner, leaf), 0

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and before:
            act(*given, **more)
        result = real(*given, **more)
        if calls == count and not before:
            act(*given, **more)
        return result

    with mock.patch(name, counted):
        yield


def _now(*given: Any, **more: Any) -> None:
    die()


def _interrupt(*given: Any, **more: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _half_line(log: Any, row: dict[str, Any]) -> None:
    """A row of which the disk got a half."""
    with log.jsonl.open("a") as file:
        file.write(json.dumps({"step": row["step"], "age_mae": 1.0})[:12])
    die()


def _half_file(path: Path, content: Any, *rest: Any, **more: Any) -> None:
    """A file whose temporary name the disk got."""
    from medssl.files import write_atomic

    def half(file: Any) -> None:
        file.write(b"half")
        file.flush()
        die()

    write_atomic(path, half)


PLACES: dict[str, Callable[[], Any]] = {
    "before the first checkpoint": lambda: _calling("medssl.training.monitors.Monitor.on_step", 1, False, _now),
    "in an epoch": lambda: _calling("medssl.training.monitors.Monitor.on_step", 5, False, _now),
    "late": lambda: _calling("medssl.training.monitors.Monitor.on_step", 3, False, _now),
    "after a checkpoint": lambda: _calling("medssl.training.hardware.launch.write_checkpoint", 3, False, _now),
    "in a checkpoint": lambda: _calling("medssl.training.checkpoints.write_atomic", 4, True, _half_file),
    "in a row of a log": lambda: _calling("medssl.training.log.Log.write", 9, True, _half_line),
    "in a map": lambda: _calling("medssl.training.monitors.write_atomic", 2, True, _half_file),
    "between a map and its picture": lambda: _calling("medssl.runs.finish.save_figure", 2, True, _now),
    "in the likeness": lambda: _calling("medssl.runs.finish.likeness_of", 1, True, _now),
    "after the encoder": lambda: _calling("medssl.runs.finish.write_sample_views", 1, True, _now),
    "in the report": lambda: _calling("medssl.runs.finish.build_report", 1, True, _now),
    "while it goes back": lambda: _calling("medssl.training.log.write_atomic", 2, True, _half_file),
    "by Ctrl-C": lambda: _calling("medssl.training.monitors.Monitor.on_step", 8, False, _interrupt),
}
"""Where a training kills itself (of 15 steps in 5 epochs, a checkpoint every 2)."""


def artefacts(run: Path) -> dict[str, Any]:
    """Every file of a run folder as what must be equal, without ``VARYING``; an unknown one is an error.

    The report, a function of the other files but for ``VARYING``, is only there or not here; see ``report_of``.
    """
    names = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())
    if unknown := [name for name in names if not KNOWN.fullmatch(name)]:
        raise AssertionError(f"{unknown} are artefacts that this test does not know; say here how they are compared")
    content = {name: _content(run / name, name) for name in names if "tensorboard" not in name}
    return content | _scalars(run / "logs" / "tensorboard")


def _content(path: Path, name: str) -> Any:
    if name == "report.html":
        return "there"
    if name == "run.json":
        return {key: value for key, value in json.loads(path.read_text()).items() if key not in VARYING[name]}
    if name == "logs/train.jsonl":
        return [_less(json.loads(line)) for line in path.read_text().splitlines()]
    if name == "logs/train.csv":
        with path.open(newline="") as file:
            return [_less(row) for row in csv.DictReader(file)]
    if name.startswith("checkpoints/"):
        return _flat(_loaded(path))
    return path.read_bytes()


def _less(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in VARYING["logs/train"]}


def _loaded(path: Path) -> Any:
    import torch

    state = torch.load(path, weights_only=True)
    del state["medssl"]["identity"]["run"]
    return state


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    """Nested values by their places, tensors as bytes."""
    import torch

    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{place}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for n, part in enumerate(value) for k, v in _flat(part, f"{place}[{n}]").items()}
    if isinstance(value, torch.Tensor):
        return {place: (str(value.dtype), tuple(value.shape), value.numpy().tobytes())}
    return {place: value}


def _scalars(folder: Path) -> dict[str, Any]:
    """What TensorBoard shows: every curve with its steps and values."""
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.rpartition("/")[2] not in VARYING["logs/train"]]
    return {f"tensorboard {tag}": [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def report_of(run: Path, scratch: Path) -> bytes:
    """The report of the run where ``VARYING`` is the same for every run."""
    from medssl.report.build import build_report

    copy = scratch / "report" / "run"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    info = {**json.loads((run / "run.json").read_text()), "created": "2026-01-01T00:00:00Z", "id": ""}
    info |= {"finished": "2026-01-01T01:00:00Z", "command": "medssl", "continued": []}
    (copy / "run.json").write_text(json.dumps(info))
    rows = [json.loads(line) | {"scans_per_s": 1.0} for line in (run / "logs/train.jsonl").read_text().splitlines()]
    (copy / "logs/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]), restval="")
    writer.writeheader()
    writer.writerows(rows)
    (copy / "logs/train.csv").write_text(table.getvalue())
    return build_report(copy).read_bytes()
