"""A method that trains must learn: its frozen features beat the untrained network's (slow suite)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.methods.run import cohort, learn
from medssl.recipe.catalog import CATALOG


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort(tmp_path_factory.mktemp("learning"))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CATALOG))
def test_frozen_features_beat_the_untrained_network(name: str, manifest: Path) -> None:
    scores = learn(name, manifest, manifest.parents[1])["scores"]
    gain = scores["differences"]["untrained"]["mae_external"]
    assert gain["difference"] < 0, f"{name}: {gain}"
