"""A scored run with an encoder file, as the checklists and the model card read it, without a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from medssl.encoders import build_encoder
from medssl.encoders.file import save_encoder
from tests.report.conftest import write_run

SETTINGS = """optim:
  name: adamw
  lr: 0.002
  weight_decay: 5.0e-05
  schedule: onecycle
monitors:
  every: 5
  holdout: 0.25
regularizers: []
"""
LIKENESS = {"measures": ["finest", "coarsest"], "span": [[0.0, 0.0], [0.0, 0.1823]]}
PLACE = "/home/jane doe/study"
"""A folder that shows the name of a user, with a blank in it."""


def change(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_encoder(path: Path, seed: int = 0, **more: Any) -> str:
    """An encoder of 12 x 12 x 12 voxels with the card of a run; the digest of its weights, the same for one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder("resnet18", width=4, depth=[1, 1], norm="group", stem="small", shape=(12, 12, 12))
    preprocessing = {"spacing": [4.0] * 3, "shape": [12] * 3, "intensity": "zscore", "mask": "nonzero", "version": 1}
    card = {"method": "exponential", "preprocessing": preprocessing, "images": ["image"], "columns": None,
            "recipe": {"data": {"manifest": f"{PLACE}/manifest.csv"}, "views": {"policy": "none"}},
            "likeness": LIKENESS}  # fmt: skip
    return save_encoder(encoder, path, card | more)


def study(folder: Path, site: str = "") -> Path:
    """Everything a finished, scored run holds, its encoder and its errors per site included."""
    write_run(folder, site=site)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("cohort/manifest.csv", f"{PLACE}/manifest.csv") + SETTINGS)
    facts = json.loads((folder / "run.json").read_text())
    training = facts["training"] | {"manifests": [f"{PLACE}/manifest.csv"]}
    command = f"{PLACE}/.venv/bin/medssl pretrain exponential"
    digest = write_encoder(folder / "encoder.safetensors")
    change(folder / "run.json", training=training, command=command, hashes=facts["hashes"] | {"encoder": digest})
    per_site = [
        {"site": name, "split": split, "n": 10 + k, "mae": 4.25 + k, "mae_constant": 12.0, "bias": 1.5 - k}
        for k, (name, split) in enumerate([(site or "site-01", "internal_test"), ("site-02", "internal_test"),
                                           ("site-09", "external_test"), ("site-10", "external_test")])
    ]  # fmt: skip
    scores = json.loads((folder / "scores.json").read_text())
    people = {f"subjects_{split}": scores["n"][split] for split in ("train", "internal_test", "external_test")}
    notes = [*scores["notes"], f"1 scan could not be read; see {PLACE}/features.csv.failures.csv",
             "1 of 180 scans look unlike the training scans (manifest.csv row 298 (sub-0297))"]  # fmt: skip
    change(
        folder / "scores.json",
        per_site=per_site,
        n=scores["n"] | people,
        notes=notes,
        protocol=scores["protocol"] | {"resamples": 2000, "harmonize": "none"},
        provenance=scores["provenance"]
        | {"run": f"{PLACE}/run", "manifests": [f"{PLACE}/manifest.csv"], "encoder": digest},
    )
    shutil.rmtree(folder / "logs")  # no document reads them, and reading takes long
    (folder / "views.npz").unlink()
    return folder
