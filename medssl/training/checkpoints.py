"""Checkpoints that are whole or absent: written beside, then renamed; read with ``weights_only=True``."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch

from medssl.errors import UserError
from medssl.files import write_atomic

_NAME = re.compile(r"step-(\d+)\.ckpt$")


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Save under a temporary name in the same folder, flush to the disk, rename."""
    content = io.BytesIO()  # torch's own writer hides that a disk is full
    torch.save(state, content)
    write_atomic(path, lambda file: file.write(content.getbuffer()), "set output= to another disk", durable=True)


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
