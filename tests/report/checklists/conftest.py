from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.report.checklists.study import study


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored run with its encoder that no test changes."""
    return study(tmp_path_factory.mktemp("studies") / "demo")


@pytest.fixture
def a_study(whole_study: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(whole_study, tmp_path / "demo"))
