"""A run folder as a training and a scoring would leave it, with plausible numbers and no training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECIPE = """method:
  name: {method}
  temperature: 0.1
  sigma: 5.0
encoder:
  name: resnet18
  width: 16
  norm: group
data:
  manifest: cohort/manifest.csv
  preprocessing:
    spacing:
    - 4.0
    - 4.0
    - 4.0
    intensity: zscore
    mask: nonzero
views:
  policy: robust
trainer:
  epochs: 28
  seed: 0
"""
VIEWS = [
    {"flip": {"p": 0.5, "axes": [0]}},
    {"gamma": {"p": 0.8, "log_gamma": [-0.3, 0.3]}},
    {"noise": {"p": 0.5, "std": [0.0, 0.1]}},
    {"cutout": {"p": 0.5, "size": 0.25}},
    {"zscore": {"p": 1.0}},
]
ERRORS = {"encoder": (5.2, 5.9), "untrained": (6.0, 7.0)}


def people(rng: np.random.Generator) -> list[dict[str, Any]]:
    """340 training and 60 internal scans of 8 sites, 120 external scans of 4 unseen ones."""
    known, unseen = [f"site-{i:02d}" for i in range(1, 9)], [f"site-{i:02d}" for i in range(9, 13)]
    rows = []
    for i in range(520):
        split = "train" if i < 340 else "internal_test" if i < 400 else "external_test"
        sites = unseen if split == "external_test" else known
        site = sites[int(rng.integers(len(sites)))]
        centre = 25 + 4 * ((int(site[-2:]) * 5) % 12)
        age = float(np.clip(rng.normal(centre, 14), 6, 90))
        sex = "FM"[int(rng.integers(2))]
        row = {
            "participant_id": f"sub-{i:04d}",
            "session": "",
            "site": site,
            "split": split,
            "age": age,
            "sex": sex,
        }
        rows.append(row | {"dataset": "synthetic"})
    return rows


def row_of(mae: float, bacc: float, spread: float = 0.6) -> dict[str, Any]:
    """A line of the scorecard with intervals around it."""
    inner, challenge = mae * 0.9, bacc**0.3 * mae
    values = {
        "mae_internal": inner,
        "mae_external": mae,
        "rmse_internal": inner * 1.25,
        "rmse_external": mae * 1.25,
        "r2_internal": 1 - (inner * 1.25 / 17) ** 2,
        "r2_external": 1 - (mae * 1.25 / 17) ** 2,
        "site_bacc": bacc,
        "site_chance": 0.125,
        "challenge": challenge,
    }
    widths = {
        "mae_internal": 1.3 * spread,
        "mae_external": spread,
        "site_bacc": 0.07,
        "challenge": 0.5,
        "r2_external": 0.04,
    }
    return values | {"ci": {k: [values[k] - w, values[k] + w] for k, w in widths.items()}}


def scores(mae: float = 5.0, ridge: float = 3.5, untrained: float = 10.0, bacc: float = 0.41) -> dict[str, Any]:
    """scores.json of an encoder with this error on unseen sites beside references of those errors."""
    oracle = row_of(0.04, 0.21, 0.0) | {"ci": {}}
    site = {
        "mae_internal": 10.6,
        "mae_external": None,
        "site_bacc": None,
        "ci": {"mae_internal": [9.1, 12.2]},
    }
    others = {"constant": 12.4, "untrained": untrained, "ridge_voxels": ridge}
    differences: dict[str, Any] = {}
    for name, other in others.items():
        d = mae - other
        differences[name] = {
            "mae_external": {"difference": d, "ci": [d - 0.8, d + 0.8], "ci_sites": [d - 1.6, d + 1.7]}
        }
    change = {"difference": mae * 0.9 - 10.6, "ci": [-7.6, -4.5], "ci_sites": None}
    differences["site_median"] = {"mae_internal": change}
    return row_of(mae, bacc) | {
        "references": {
            "constant": row_of(12.4, 0.125, 1.1) | {"r2_external": -0.03},
            "age_oracle": oracle,
            "site_median": site,
            "ridge_voxels": row_of(ridge, 0.87, 0.4),
            "untrained": row_of(untrained, 0.78, 1.0),
        },
        "differences": differences,
        "per_site": [],
        "n": {
            "train": 340,
            "internal_test": 60,
            "external_test": 120,
            "sites_train": 8,
            "sites_external_test": 4,
        },
        "notes": ["2 scans of unknown age judge no age error"],
        "protocol": {
            "age": "GridSearchCV(Ridge)",
            "site": "GridSearchCV(LogisticRegression)",
            "scale": False,
        },
        "provenance": {"features": "encoder", "manifest": "9f" * 32, "encoder": "ab" * 32},
    }


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def brain(age: float, rng: np.random.Generator, side: int = 48) -> np.ndarray:
    """Three pictures that look a little like middle slices: rim, tissue, ventricles that grow with age."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    planes = []
    for width in (0.8, 0.7, 0.75):
        r = np.hypot(x / width, y / 0.9)
        tissue = 1.2 - 0.4 * np.cos(9 * r) + rng.normal(0, 0.1, x.shape)
        hole = np.hypot(x / (0.1 + age / 500), y / 0.3) < 1
        planes.append(np.where(r < 1, np.where(hole, -0.9, tissue - 0.6), 0.0))
    return np.stack(planes)


def write_run(folder: Path, players: tuple[str, ...] = (), site: str = "", mae: float = 5.0) -> Path:
    """Everything a finished, scored run holds. players: their names, none for one loss. site: replaces site-01."""
    rng = np.random.default_rng(7)
    scans = people(rng)
    for scan in scans:
        scan["site"] = site if site and scan["site"] == "site-01" else scan["site"]
    train = [s for s in scans if s["split"] == "train"]
    sites = sorted({s["site"] for s in train})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(method="bigan" if players else "exponential"), encoding="utf-8")
    per_site = [
        {"site": s, "n": len(a), "age": [min(a), float(np.median(a)), max(a)]}
        for s in sites
        for a in [[t["age"] for t in train if t["site"] == s]]
    ]
    ages = [t["age"] for t in train]
    facts = {
        "medssl_version": "0.1.0",
        "created": "2026-03-02T10:00:00Z",
        "finished": "2026-03-02T10:04:10Z",
        "state": "finished",
        "seed": 0,
        "method": "bigan" if players else "exponential",
        "views": VIEWS,
        "hashes": {"recipe": "c3" * 32, "manifest": "9f" * 32, "encoder": "ab" * 32},
        "versions": {"medssl": "0.1.0", "torch": "2.13.0"},
        "hardware": {"system": "Linux x86_64", "cores": 2, "threads": 1, "gpu": None},
        "command": "medssl pretrain exponential data.manifest=cohort/manifest.csv",
        "training": {
            "scans": 340,
            "rows_in_manifests": 520,
            "subjects": 340,
            "sites": sites,
            "per_site": per_site,
            "age": [min(ages), float(np.median(ages)), max(ages)],
            "sex": {"F": 171, "M": 169},
            "manifests": ["cohort/manifest.csv"],
        },
    }
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    write_csv(folder / "features.csv", [s | {"f0000": 0.1, "f0001": -0.2} for s in scans])
    predictions = []
    for kind, (internal, external) in ERRORS.items():
        for s in scans:
            if s["split"] == "train":
                continue
            sd = internal if s["split"] == "internal_test" else external
            noise = rng.normal(0, sd)
            predicted = 42 + (s["age"] - 42) * (0.9 if kind == "encoder" else 0.55) + noise
            predictions.append(
                {k: s[k] for k in ("participant_id", "session", "site", "split", "age")}
                | {"predicted": predicted, "features": kind}
            )
    found = scores(mae)
    _aim(predictions, "untrained", found["references"]["untrained"])
    write_csv(folder / "predictions.csv", predictions)
    for kind, row in (("encoder", found), ("untrained", found["references"]["untrained"])):
        row |= measured(predictions, kind)
        row["challenge"] = row["site_bacc"] ** 0.3 * row["mae_external"]
    (folder / "scores.json").write_text(json.dumps(found), encoding="utf-8")
    _logs(folder / "logs", rng, train, players)
    slices = np.zeros((4, 3, 3, 48, 48), np.float32)
    shown = [12.0, 34.0, 57.0, 83.0]
    for i, age in enumerate(shown):
        plain = brain(age, rng)
        slices[i] = np.stack([plain, plain * 1.3 + rng.normal(0, 0.15, plain.shape), plain[..., ::-1] * 0.8])
        slices[i, 1, :, 10:22, 12:24] = 0
    np.savez_compressed(folder / "views.npz", slices=slices, ages=np.array(shown))
    return folder


def _aim(predictions: list[dict[str, Any]], kind: str, row: dict[str, Any]) -> None:
    """Stretch the errors of a row of the scorecard so that they have its mean absolute errors."""
    for metric, value in measured(predictions, kind).items():
        name, _, part = metric.partition("_")
        if name == "mae":
            for p in predictions:
                if (p["features"], p["split"]) == (kind, f"{part}_test"):
                    p["predicted"] = p["age"] + (p["predicted"] - p["age"]) * row[metric] / value


def measured(predictions: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Errors of the predictions of a row of the scorecard."""
    found = {}
    for part in ("internal", "external"):
        mine = [p for p in predictions if (p["split"], p["features"]) == (f"{part}_test", kind)]
        age, error = np.array([p["age"] for p in mine]), np.array([p["predicted"] - p["age"] for p in mine])
        found[f"mae_{part}"] = float(np.abs(error).mean())
        found[f"rmse_{part}"] = float(np.sqrt((error**2).mean()))
        found[f"r2_{part}"] = 1 - float((error**2).sum() / ((age - age.mean()) ** 2).sum())
    return found


def _logs(logs: Path, rng: np.random.Generator, train: list[dict[str, Any]], players: tuple[str, ...]) -> None:
    steps = []
    for step in range(5, 28 * 11 + 1, 5):
        done = step / 308
        row: dict[str, Any] = {"step": step, "epoch": (step - 1) // 11}
        if players:
            for i, name in enumerate(players):
                row[f"loss_{name}"] = 0.7 - 0.2 * i + 0.3 * np.exp(-4 * done) + rng.normal(0, 0.04)
        else:
            row |= {"loss": 2.1 + 1.95 * np.exp(-3 * done) + rng.normal(0, 0.08)}
        row |= {
            "lr": 0.002 * min(done / 0.3, 0.5 + 0.5 * np.cos(np.pi * (done - 0.3) / 0.7)),
            "grad_norm": 2.5 * np.exp(-done) + abs(rng.normal(0, 0.3)),
            "scans_per_s": 44 + rng.normal(0, 2),
            "std": 0.03 + 0.055 * (1 - np.exp(-5 * done)),
            "rankme": 6 + 30 * done + rng.normal(0, 1),
            "alignment": 0.9 * np.exp(-3 * done) + 0.2,
            "uniformity": -0.8 - 2.1 * done,
        }
        steps.append(row | ({} if players else {"chance": 4.143}))
    write_csv(logs / "train.csv", steps)
    probes = []
    for e in (4, 9, 14, 19, 24, 27):
        row = {"epoch": e, "step": 11 * (e + 1), "age_mae": 5.5 + 5 * np.exp(-e / 8), "age_chance": 12.3}
        row |= {"site_bacc": 0.45 + 0.3 * np.exp(-e / 9), "site_chance": 0.125, "rankme": 20 + e, "std": 0.4}
        probes.append(row)
    write_csv(logs / "probe.csv", probes)
    text = "no learning yet: the loss stays at its chance level 4.143"
    warning = {"step": 40, "epoch": 3, "level": "warning", "text": text}
    (logs / "messages.jsonl").write_text(json.dumps(warning) + "\n", encoding="utf-8")
    for epoch, order in ((5, 0.2), (28, 1.0)):
        rows = []
        for i, t in enumerate(train):
            turn = order * (t["age"] / 30) + (1 - order) * rng.uniform(0, 6)
            x, y = np.cos(turn) * 6 + rng.normal(0, 0.8), np.sin(turn) * 4 + rng.normal(0, 0.8)
            about = {k: t[k] for k in ("participant_id", "age", "site", "sex")}
            rows.append({"row": i, "x": x, "y": y} | about)
        write_csv(logs / f"map-epoch{epoch:04d}.csv", rows)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(name="demo", **options of write_run) -> run folder."""
    return lambda name="demo", **options: write_run(tmp_path / name, **options)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, scored run that no test changes."""
    return write_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture
def bare_run(tmp_path: Path) -> Path:
    """A run folder that holds a recipe and nothing else."""
    folder = tmp_path / "bare"
    (folder / "logs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(method="exponential"), encoding="utf-8")
    return folder


@pytest.fixture
def make_scores() -> Callable[..., dict[str, Any]]:
    """The content of scores.json with chosen errors."""
    return scores
