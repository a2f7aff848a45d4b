from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.features.table import FeatureTable
from medssl.runs.same_scans import DIGESTS, copied, trained_on, write_digests
from medssl.tables.people import COPY

SPLIT = ["train"] * 6 + ["internal_test"] * 3 + ["external_test"]


def table(marks: dict[int, str] | None = None, values: np.ndarray | None = None, **provenance: Any) -> FeatureTable:
    """Ten people with a mark each, those of ``marks`` instead."""
    own = [f"a{k}-b{k}-c{k}-d{k}" for k in range(10)]
    for row, text in (marks or {}).items():
        own[row] = text
    meta = pd.DataFrame({"participant_id": [f"p{k}" for k in range(10)], "split": SPLIT, COPY: own})
    features = np.random.default_rng(0).normal(size=(10, 12)) if values is None else values
    return FeatureTable(meta, features, provenance)


@pytest.mark.oddity("test-scan-is-a-copy")
def test_a_test_row_with_the_image_of_a_train_row_is_named():
    assert copied(table()) == []
    (note,) = copied(table({7: "a2-x-x-x"}))
    assert note.startswith(
        "1 of 4 test scans are the same image as a scan of split train under another name (first: row 9 (p7) and row 4 "
        "(p2)), so their scores say nothing"
    )
    assert copied(table({7: "", 2: ""})) == []
    assert copied(table({5: "a2-x-x-x"})) == []  # both are trained on
    assert copied(FeatureTable(table().meta.drop(columns=COPY), table().values)) == []


@pytest.mark.oddity("equal-features")
def test_a_test_row_with_the_very_features_of_a_train_row_is_named():
    values = np.random.default_rng(0).normal(size=(10, 12)).astype(np.float32)
    values[8] = values[3]
    (note,) = copied(table(values=values))
    assert "1 of 4 test scans have the very features of a row of split train under another name" in note
    assert "row 10 (p8) and row 5 (p3)" in note
    values[8, 0] = np.nextafter(values[8, 0], 9)
    assert copied(table(values=values)) == []
    assert copied(table(values=np.ones((10, 12)))) == []  # features that say nothing
    assert copied(table(values=np.tile(np.arange(12.0), (10, 1)))) == []  # an encoder that collapsed
    assert copied(table(values=values[:, :4].round())) == []  # few features may agree by chance
    values[8] = values[3]
    (note,) = copied(table({8: "a3-x-x-x"}, values))  # said once
    assert "the same image" in note


@pytest.mark.oddity("test-scan-was-trained-on")
def test_a_test_row_with_a_training_scan_of_the_encoder_is_named(tmp_path: Path):
    write_digests(tmp_path, "E", ["", "b9-z", "q-r-s-t"])
    assert json.loads((tmp_path / DIGESTS).read_text()) == {"encoder": "E", "scans": ["b9-z", "q-r-s-t"]}
    given = {"run": str(tmp_path), "encoder": "E"}
    (note,) = trained_on(table(**given))
    assert note.startswith(
        "1 of 4 test scans is the same image as a scan that was trained on by this encoder (first: row 11 (p9))"
    )
    assert trained_on(table({9: "a0-x-x-x"}, **given)) == []
    assert trained_on(table(**given | {"encoder": "another"})) == []
    assert trained_on(table(run=str(tmp_path / "gone" / "run"), encoder="E")) == []
    named = table({9: "a0-b9-x-x"}, **given)  # a train row of the table has it, too
    assert (len(copied(named)), trained_on(named)) == (1, [])
    (tmp_path / DIGESTS).write_text("[1]")
    with pytest.raises(UserError, match=DIGESTS):
        trained_on(table(**given))
