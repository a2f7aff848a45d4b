"""What many tests need: one thread, a private volume cache, a small synthetic cohort."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
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


@pytest.fixture(scope="session", autouse=True)
def _no_lines_of_progress() -> None:
    """A slow machine adds no lines on progress to what tests compare; ``tests/progress`` sets the limit back."""
    from medssl.progress import steps

    steps.QUIET_S = float("inf")


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 40 synthetic people from 6 sites at 8 mm, drawn once for all workers of pytest."""
    from tests.pair import once

    def draw(out: Path) -> None:
        draw_cohort(out / "cohort", subjects=40, sites=6, seed=1)

    return once(tmp_path_factory, "synthetic", draw) / "cohort" / "manifest.csv"


def draw_cohort(out: Path, *, subjects: int, sites: int, seed: int) -> Path:
    """A synthetic cohort at 8 mm whose shapes are drawn at 4 mm, not at 2: an eighth of the points."""
    from medssl.data.synthetic import cohort as synthetic

    coarse = replace(synthetic.grid_for(8.0), factor=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "grid_for", lambda spacing: coarse)
        return synthetic.synthesize(
            out, subjects=subjects, sites=sites, seed=seed, spacing=8.0, progress=False, workers=1
        )


@pytest.fixture(scope="module")
def without_report() -> Iterator[None]:
    """Trainings end with a word instead of their report, which takes longer than they do; for modules that read none.

    To be named in ``pytestmark`` (usefixtures), so that it comes before the other fixtures of the module.
    """
    from medssl.report import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "render", lambda files: "no report in this test")
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; skips where it is absent."""
    given = os.environ.get("MEDSSL_REAL_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "brains4mm").is_dir():
        pytest.skip("no real scans here; set MEDSSL_REAL_DATA to a folder that holds brains4mm/")
    return folder


def tiny_recipe(manifest: Path, output: Path, method: str = "exponential") -> list[str]:
    """Overrides that make any pre-training recipe a matter of seconds, without maps."""
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
        "monitors.map=false",
    ]
    if method == "mae":
        return [*changes, "encoder={name: vit, patch: 8, width: 24, depth: 1, heads: 2}"]
    return [*changes, "encoder={name: resnet18, width: 4, depth: [1, 1], norm: group, stem: small}"]
