"""What the speed benchmark prints can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt

from benchmarks.speed import embed
from benchmarks.speed.__main__ import figure, markdown
from benchmarks.speed.timing import Part
from medssl.features.embed import PART


def test_ratios_are_printed_and_drawn_with_three_digits_however_small(monkeypatch: pytest.MonkeyPatch):
    part = Part("Sizes")
    for key, value in (("small", 1.2e-5), ("near", 1.1449), ("large", 123.4)):
        part.ratio(key, value, "lower is better")
    assert "| `small` | 1.2e-05 |" in markdown(part)
    assert "| `near` | 1.14 |" in markdown(part)
    drawn: list[Any] = []
    monkeypatch.setattr(plt, "close", drawn.append)
    assert figure({"sizes": part}).startswith(b"\x89PNG")
    assert [text.get_text().strip() for text in drawn[0].axes[0].texts] == ["123", "1.14", "1.2e-05"]


def test_the_record_of_embedding_says_what_was_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embed, "SHAPE", (16, 16, 16))
    part = Part("Embedding")
    embed._embedding(part, tmp_path, quick=True)
    for row in part.rows:
        assert (row["voxels"], row["batch"], row["scans per saved part"]) == ("16x16x16", 8, PART)
