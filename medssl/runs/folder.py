"""The folder that a training leaves: names of its files, and JSON written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from medssl.documents.json_file import read_json
from medssl.environment import now
from medssl.errors import UserError
from medssl.files import make_folder, said, write_atomic
from medssl.training.checkpoints import list_checkpoints

_PARTS = (
    "recipe.yaml", "run.json", "scans.csv", "scan-digests.json", "encoder.safetensors", "projection.safetensors",
    "views.npz", "report.html", "scores.json", "predictions.csv", "openbhb.json", "openbhb.md", "logs", "checkpoints",
    "model-card",
)  # fmt: skip
"""What stands in a run folder, beside tables of features and checklists."""


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

    def refuse_taken(self, inputs: Iterable[str | Path] = ()) -> None:
        """Refuse a folder in which a new run would write over something.

        What a run left that died before its first checkpoint may be written over. inputs: files that the run reads.
        Errors: UserError where the folder holds another run, one of the inputs under a name that a run writes, or
        anything that is not of a run.
        """
        if self.encoder.is_file() or list_checkpoints(self.checkpoints):
            raise UserError(
                f"{self.folder} already holds a run; continue it with `medssl pretrain --resume {self.folder}` or "
                f"set output= to another folder"
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; set output= to a folder")
        if not self.folder.is_dir():
            return
        with said(self.folder, "set output= to another folder"):
            names = sorted(os.listdir(self.folder))
        read = {os.path.realpath(path) for path in inputs}
        for name in names:
            if os.path.realpath(self.folder / name) in read:
                raise UserError(
                    f"{self.folder / name} is read by this run, so its folder is no place for the run; set output= to "
                    "another folder"
                )
        died = False
        with suppress(UserError):  # of a file of this name that is none of ours
            died = {"state", "created"} <= self.read_info().keys()
        foreign = next((name for name in names if not _is_of_a_run(name, self.folder / name, died)), None)
        if foreign is not None:
            raise UserError(
                f"{self.folder} holds {foreign}, which is not of a run, so no run is put there; set output= to a new "
                "or empty folder"
            )

    def start(self, recipe_yaml: str, info: Mapping[str, Any], scans: str | None = None) -> None:
        """Make the folder; refuses one that holds anything else (``refuse_taken``).

        scans: text of scans.csv, what the training scans hold. run.json is written first: it tells what a run that dies
        leaves from what others put there.
        """
        self.refuse_taken()
        try:
            make_folder(self.logs, "set output= to another folder")
            make_folder(self.checkpoints)
            self.write_info({"created": now(), "finished": None, "state": "training", **info})
            write_atomic(self.recipe, recipe_yaml)
            if scans is not None:
                write_atomic(self.scans, scans)
        except UserError:
            for folder in (self.logs, self.checkpoints, self.folder):
                with suppress(OSError):  # it holds something
                    folder.rmdir()
            raise

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


def _is_of_a_run(name: str, path: Path, died: bool) -> bool:
    """Whether a run wrote a file or a folder of this name; ``died``: whether a run.json says that one was begun."""
    if name.startswith("."):  # the lock, temporaries, and what systems leave everywhere
        return True
    if not died:
        return name in ("logs", "checkpoints") and path.is_dir() and not any(path.iterdir())
    return name in _PARTS or name.startswith(("features", "checklist-"))
