"""The folder that a training leaves: names of its files, and JSON written whole."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import torch

from medssl import __version__
from medssl.documents.json_file import read_json
from medssl.errors import UserError
from medssl.files import make_folder, write_atomic
from medssl.training.checkpoints import list_checkpoints
from medssl.training.options import TrainerOptions

_PACKAGES = (
    "torch",
    "monai",
    "pytorch-lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "nibabel",
    "SimpleITK",
    "pandas",
)


class _State(TypedDict):
    state: str


class RunInfo(_State, total=False):
    """What run.json must hold, and the form of what it may hold."""

    id: str
    hashes: dict[str, str]
    contents: str | None
    finished: str | None
    created: str | None
    seed: int
    method: str
    continued: list[dict[str, Any]]
    training: dict[str, Any]
    versions: dict[str, str]


class Run:
    """Paths of a run folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.recipe = self.folder / "recipe.yaml"
        self.scans = self.folder / "scans.csv"
        self.info = self.folder / "run.json"
        self.encoder = self.folder / "encoder.safetensors"
        self.projection = self.folder / "projection.safetensors"
        self.lock = self.folder / ".lock"
        self.checkpoints = self.folder / "checkpoints"
        self.logs = self.folder / "logs"
        self.views = self.folder / "views.npz"
        self.features = self.folder / "features.csv"
        self.scores = self.folder / "scores.json"
        self.report = self.folder / "report.html"

    def start(self, recipe_yaml: str, info: Mapping[str, Any], scans: str | None = None) -> None:
        """Make the folder; refuses one that holds another run, unless that one died before its first checkpoint.

        scans: text of scans.csv, what the training scans hold.
        """
        if self.encoder.is_file() or list_checkpoints(self.checkpoints):
            raise UserError(
                f"{self.folder} already holds a run; continue it with `medssl pretrain --resume {self.folder}` or "
                f"set output= to another folder"
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; set output= to a folder")
        make_folder(self.logs, "set output= to another folder")
        make_folder(self.checkpoints)
        write_atomic(self.recipe, recipe_yaml)
        if scans is not None:
            write_atomic(self.scans, scans)
        self.write_info({"created": now(), "finished": None, "state": "training", **info})

    def read_info(self) -> dict[str, Any]:
        """Content of run.json."""
        if not self.info.is_file():
            raise UserError(f"{self.folder} is no run folder (run.json is missing); give the folder that pretrain made")
        return dict(read_json(self.info, RunInfo, "restore it or train again", nan=True))

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_atomic(self.info, json.dumps(dict(info), indent=2, ensure_ascii=False) + "\n")

    def update(self, changes: Mapping[str, Any]) -> None:
        """Change entries of run.json."""
        self.write_info(self.read_info() | dict(changes))


def now() -> str:
    """Time stamp in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def origin() -> dict[str, Any]:
    """Versions and hardware, for run.json and for records of measurements."""
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    versions = {"medssl": __version__, "python": platform.python_version()}
    versions |= {name: installed.get(name.lower(), "not installed") for name in _PACKAGES}
    hardware = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
    return {
        "medssl_version": __version__,
        "versions": versions,
        "hardware": hardware,
        "command": " ".join(sys.argv),
    }


def process_rank() -> int:
    """Rank of this process; before torch.distributed is up, a number that is 0 in the first process alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    if os.environ.get("RANK", "").isdigit():
        return int(os.environ["RANK"])
    given = (os.environ.get(name, "") for name in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))
    return max([int(text) for text in given if text.isdigit()], default=0)


def processes(options: TrainerOptions) -> int:
    """How many processes these options train with, one per device."""
    devices = options.devices
    if devices == "auto":
        on_gpus = options.accelerator != "cpu" and torch.cuda.is_available()
        devices = torch.cuda.device_count() if on_gpus else 1
    return options.nodes * devices
