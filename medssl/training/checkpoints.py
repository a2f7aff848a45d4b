"""Checkpoints that are whole or absent: written beside, then renamed; read without unpickling more than plain values.

What a checkpoint holds is looked at before anything is built from it: its form (``read_checkpoint``), and which run,
recipe, seed and scans it belongs to (``same_run``).
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from medssl.documents.shape import checked
from medssl.errors import UserError
from medssl.files import write_atomic

_NAME = re.compile(r"step-(\d+)\.ckpt$")
ASIDE = ".damaged"
"""What is added to the name of a damaged checkpoint, so that it counts no longer."""


class Plan(TypedDict):
    """How a training counts batches: scans of one of all processes together, and batches of an epoch per process."""

    joint: int
    per_epoch: int


class Identity(TypedDict):
    """Whose state it is: the run (its random id), the hashes of its parents, and its seed."""

    run: str | None
    recipe: str
    seed: int
    manifest: str
    scans: str
    contents: str | None


class _Counted(TypedDict):
    micro: int
    prepared: int


class Counters(_Counted, total=False):
    """Our own part of a checkpoint; what older ones lack may be absent.

    micro: batches; done: optimiser steps; prepared: the epoch looked at last; monitor: what the monitors remember.
    """

    done: int
    plan: Plan
    identity: Identity
    monitor: dict[str, Any]


class _HandedOut(TypedDict):
    handed_out: int


class Loader(_HandedOut, total=False):
    """Where the loader stands."""

    joint: int
    per_epoch: int


class Loaders(TypedDict):
    """States of the loaders of a training, of which there is one."""

    combined_loader: list[Loader]


class FitLoop(TypedDict):
    """What Lightning keeps of the training's loop, of which only this is ours."""

    state_dict: Loaders


class Loops(TypedDict):
    """Lightning's loops."""

    fit_loop: FitLoop


Checkpoint = TypedDict(
    "Checkpoint",
    {
        "state_dict": dict[str, Any],
        "optimizer_states": list[dict[str, Any]],
        "loops": Loops,
        "callbacks": dict[str, Any],
        "pytorch-lightning_version": str,
        "medssl": Counters,
    },
)
"""The parts of a checkpoint that a training reads."""


class DamagedError(UserError):
    """A checkpoint that cannot be read, or lacks a part."""


_SAYS = {
    "run": "another run", "recipe": "another recipe", "seed": "another seed", "manifest": "another manifest",
    "scans": "other scans", "contents": "other contents of the scans",
}  # fmt: skip


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Save under a temporary name in the same folder, flush to the disk, rename."""
    content = io.BytesIO()  # torch's own writer hides that a disk is full
    torch.save(state, content)
    write_atomic(path, lambda file: file.write(content.getbuffer()), "set output= to another disk", durable=True)


def read_checkpoint(path: Path, where: Any = "cpu", *, mmap: bool = False) -> Checkpoint:
    """The content of a checkpoint: checksums compared, tensors and plain values only, the parts that are read in place.

    where: device of the tensors. Errors: DamagedError naming the file and the part.
    """
    remedy = "delete it, and the run continues from the checkpoint before"
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums of its own file
            if broken := archive.testzip():
                raise RuntimeError(f"the checksum of {broken} is wrong")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of a file that is none of its own
            state = torch.load(path, map_location=where, weights_only=True, mmap=mmap)
    except Exception as problem:  # a damaged file raises anything at all
        text = " ".join(str(problem).split())[:80] or type(problem).__name__
        raise DamagedError(f"{path} is damaged ({text}); {remedy}") from problem
    checked(state, Checkpoint, str(path), remedy, DamagedError)
    for name, value in state["state_dict"].items():
        if not isinstance(value, torch.Tensor):
            raise DamagedError(f"{path}: state_dict.{name:.80} is no tensor; {remedy}")
    found: Checkpoint = cast(Checkpoint, state)
    own = found["medssl"]
    counted = [loader["handed_out"] for loader in found["loops"]["fit_loop"]["state_dict"]["combined_loader"]]
    if counted != [own["micro"]] or min(own["micro"], own.get("done", 0)) < 0:
        raise DamagedError(f"{path}: its parts count different batches ({own['micro']} and {counted}); {remedy}")
    return found


def identity_of(info: Mapping[str, Any]) -> Identity:
    """The identity of a run by its run.json."""
    hashes = info.get("hashes", {})
    named = {name: str(hashes.get(name, "")) for name in ("recipe", "manifest", "scans")}
    return cast(
        Identity, {"run": info.get("id"), "seed": info.get("seed", 0), "contents": info.get("contents"), **named}
    )


def same_run(state: Checkpoint, identity: Identity, path: Path) -> str | None:
    """Refuse the checkpoint of another run than ``identity``; a note where an older medssl did not write whose it is.

    Errors: UserError naming the file and what differs.
    """
    remedy = "take it out of the folder, and the run continues from the checkpoint before"
    written = state["medssl"].get("identity")
    if written is None:
        if identity["run"] is not None:
            raise UserError(
                f"{path} does not say which run it belongs to, but every checkpoint of this run does; {remedy}"
            )
        return (
            f"{path} was written by an older medssl, which did not note in it to which run it belongs; only its "
            "weights are compared with the recipe"
        )
    other = [name for name in _SAYS if cast(Any, written)[name] != cast(Any, identity)[name]]
    if other:
        listed = ", ".join(_SAYS[name] for name in other)
        raise UserError(f"{path} belongs to {listed}, so it cannot continue this run; {remedy}")
    return None


def resumable(run: Path, info: Mapping[str, Any], first: bool = True) -> tuple[Path, list[str]]:
    """The newest sound checkpoint of a run, and notes on what was found instead of a newer one.

    Damaged ones are set aside under another name by the first process. Errors: UserError where the folder is no run,
    holds no sound checkpoint, or one of another run.
    """
    newest_checkpoint(run)
    identity, notes, damaged = identity_of(info), [], []
    for path in reversed(list_checkpoints(run / "checkpoints")):
        try:
            state = read_checkpoint(path, mmap=True)
        except DamagedError as problem:
            damaged.append(path)
            notes.append(f"{str(problem).rpartition(';')[0]}; it is set aside as {path.name}{ASIDE}")
            continue
        if note := same_run(state, identity, path):
            notes.append(note)
        break
    else:
        raise UserError(
            f"{run} holds no checkpoint that can be read ({damaged[0].name!s} and all before it are damaged); "
            "restore one, or start a new run"
        )
    if damaged:
        notes.append(f"{run} continues from {path.name} instead, which gives the same result")
        for old in damaged if first else ():
            old.replace(old.with_name(old.name + ASIDE))
    return path, notes


def checkpoint_name(step: int) -> str:
    """File name of the checkpoint after ``step`` optimiser steps."""
    return f"step-{step:08d}.ckpt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [p for p in folder.glob("step-*.ckpt") if _NAME.search(p.name)]
    return sorted(found, key=lambda p: p.name)


def newest_checkpoint(run: Path) -> Path:
    """The checkpoint to resume from.

    Raises UserError when the folder is no run or holds none.
    """
    if not (run / "recipe.yaml").is_file():
        raise UserError(f"{run} is no run folder (recipe.yaml is missing); give the folder that pretrain made")
    found = list_checkpoints(run / "checkpoints")
    if not found:
        raise UserError(f"{run} holds no checkpoint yet; start it again without --resume")
    return found[-1]


def how_to_continue(run: Path) -> str:
    """One sentence after a training was stopped by hand."""
    found = list_checkpoints(run / "checkpoints")
    if not found:
        return f"stopped by hand before the first checkpoint; start {run} again as before"
    step = int(found[-1].stem.removeprefix("step-"))
    return f"stopped by hand; continue after step {step} with `medssl pretrain --resume {run}`"


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and what a killed process left half-written."""
    for old in list_checkpoints(folder)[: -max(1, keep)]:
        old.unlink(missing_ok=True)
    for rest in folder.glob(".step-*.tmp"):
        rest.unlink(missing_ok=True)
