"""The folder that a training leaves: names of its files, and JSON written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from medssl.documents.json_file import read_json
from medssl.environment import now
from medssl.errors import UserError
from medssl.files import make_folder, write_atomic
from medssl.training.checkpoints import list_checkpoints


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
