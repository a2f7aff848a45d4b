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


def test_ratios_are_printed_with_three_digits_and_what_was_missed_is_told(monkeypatch: pytest.MonkeyPatch):
    part = Part("Sizes")
    found = {"gradcache.gradient_error": 1.2e-5, "embed.vs_forward": 1.1449, "views.vs_monai": 123.4, "other": 2.0}
    for key, value in found.items():
        part.ratio(key, value, "what it is")
    text = markdown(part)
    assert "| `gradcache.gradient_error` | 1.2e-05 | at most 1e-05 (missed) | what it is |" in text
    assert "| `embed.vs_forward` | 1.14 | at most 1.15 | what it is |" in text
    assert "| `other` | 2 |  | what it is |" in text
    drawn: list[Any] = []
    monkeypatch.setattr(plt, "close", drawn.append)
    assert figure({"sizes": part}).startswith(b"\x89PNG")
    axes = drawn[0].axes[0]
    assert [text.get_text().strip() for text in axes.texts] == [
        "123, at least 6",
        "1.14, at most 1.15",
        "1.2e-05, at most 1e-05",
    ]
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == pytest.approx([123.4 / 6, 1.15 / 1.1449, 1 / 1.2])


def test_the_record_of_embedding_says_what_was_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embed, "SHAPE", (16, 16, 16))
    part = Part("Embedding")
    embed._embedding(part, tmp_path, quick=True)
    for row in part.rows:
        assert (row["voxels"], row["batch"], row["scans per saved part"]) == ("16x16x16", 8, PART)
