"""What many tests need: one thread, a private volume cache, a small synthetic cohort."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["MEDSSL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 40 synthetic people from 6 sites at 8 mm, drawn once for all workers of pytest."""
    from medssl.data.cohorts.synthetic import synthesize
    from tests.pair import once

    def draw(out: Path) -> None:
        synthesize(out / "cohort", subjects=40, sites=6, seed=1, spacing=8.0, progress=False, workers=1)

    return once(tmp_path_factory, "synthetic", draw) / "cohort" / "manifest.csv"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; skips where it is absent."""
    given = os.environ.get("MEDSSL_REAL_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "brains4mm").is_dir():
        pytest.skip("no real scans here; set MEDSSL_REAL_DATA to a folder that holds brains4mm/")
    return folder


def tiny_recipe(manifest: Path, output: Path, method: str = "exponential") -> list[str]:
    """Overrides that make any pre-training recipe a matter of seconds."""
    changes = [
        f"data.manifest={manifest}",
        f"output={output}",
        "data.batch_size=8",
        "data.preprocessing={spacing: [8, 8, 8], shape: [24, 24, 24]}",
        "trainer.epochs=4",
        "trainer.accelerator=cpu",
        "trainer.log_steps=1",
        "trainer.precision=32-true",
        "monitors.every=2",
    ]
    if method == "mae":
        return [*changes, "encoder={name: vit, patch: 8, width: 24, depth: 1, heads: 2}"]
    return [*changes, "encoder={name: resnet18, width: 4, depth: [1, 1], norm: group, stem: small}"]
