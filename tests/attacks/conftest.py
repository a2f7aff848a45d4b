"""One world for all attacks of a worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.world import World, build_world


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> World:
    """The world as it was built."""
    return build_world(tmp_path_factory.mktemp("attacks"), cohort.parent)


@pytest.fixture
def world(built: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The world as it was built, with its home as working folder and its own cache."""
    built.restore()
    monkeypatch.setenv("MEDSSL_CACHE", str(built.home / "cache"))
    monkeypatch.chdir(built.home)
    yield built
    os.chdir(Path(__file__).parent)
