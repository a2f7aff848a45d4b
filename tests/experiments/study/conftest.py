"""A small table of regional measures with a split, and a study over it whose trials take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from medssl.data.manifest.folds import split_cohort

CHANGES = [
    "data.columns=['*_thickness']",
    "trainer.epochs=2",
    "trainer.accelerator=cpu",
    "data.batch_size=16",
    "encoder.hidden=[8, 4]",
    "monitors.every=0",
    "monitors.map=false",
]
BASE: dict[str, Any] = {"title": "Toy", "recipe": "exponential_roi", "changes": CHANGES}
GRID = {"method.temperature": [0.1, 0.5], "trainer.seed": [0, 1]}
SEARCH = {"trials": 4, "space": {"method.temperature": {"low": 0.05, "high": 1.0, "log": True}}}


@pytest.fixture(scope="session")
def measures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 people from 8 sites, four of whom came twice; 8 measures that age moves; all three splits."""
    rng = np.random.default_rng(3)
    age = rng.uniform(20, 80, 160).round(1)
    table = pd.DataFrame({"participant_id": [f"p{k:03d}" for k in range(160)], "session": "1", "age": age})
    table["site"] = [f"s{k % 8}" for k in range(160)]
    for k in range(8):
        table[f"r{k}_thickness"] = 2.5 - 0.01 * age + 0.1 * rng.normal(size=160)
    table = pd.concat([table, table.iloc[:4].assign(session="2")], ignore_index=True)
    table["split"] = split_cohort(table, seed=5)
    path = tmp_path_factory.mktemp("measures") / "regions.csv"
    table.to_csv(path, index=False)
    return path


def write(path: Path, **changes: Any) -> Path:
    """A study file: the toy grid with some keys changed, None for left out."""
    content = {k: v for k, v in (BASE | {"grid": GRID} | changes).items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return path
