"""Values that no tissue has are found, and nothing that scans do have."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.data.checks.files import examine, oddities
from medssl.data.checks.voxels import absurd, unusable
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume

REAL = Path(os.environ.get("MEDSSL_REAL_DATA", Path(__file__).parents[4] / "shared" / "data"))


def head(seed: int, vessels: float, stripped: bool, n: int = 48) -> np.ndarray:
    """A head (1, n, n, n): brain, fat, eyes, thin vessels of so many times the brain's signal, noise in the air."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n)] * 3, indexing="ij"))
    r = np.sqrt((grid**2).sum(0))
    x = np.where(r < 0.95, 300.0, 0)
    x[(r < 0.95) & (r > 0.88)] = 900
    brain = r < 0.8
    x[brain] = rng.choice([350, 500], int(brain.sum()))
    x[r < 0.2] = 150
    for side in (-0.25, 0.25):
        x[((grid - np.array([side, 0.75, -0.3])[:, None, None, None]) ** 2).sum(0) < 0.01] = 1400
    for _ in range(rng.integers(5, 40)):
        i, j, k = rng.integers(12, n - 12, 3)
        x[i, j, k : k + rng.integers(3, 12)] = 450 * vessels
    x = np.abs(x + rng.normal(0, 25, x.shape))
    return np.where(brain | (not stripped), x, 0)[None].astype(np.float32)


@pytest.mark.oddity("absurd-voxel")
@pytest.mark.parametrize("value", [1e9, -1e9, 3e4, np.float32(3e38)])
@pytest.mark.parametrize("stripped", [True, False])
@pytest.mark.parametrize("many", [1, 3])
def test_a_few_voxels_beyond_all_tissue_are_counted_and_named(value, stripped, many):
    x = head(0, 2, stripped)
    x[0, 20, 20, 20 : 20 + many] = value
    said = absurd(x)
    assert said.startswith("1 voxel has a value" if many == 1 else "3 voxels have values")
    assert f"{value:.4g}" in said
    assert "percentile is 1" in said or "percentile is 5" in said or "percentile is 9" in said
    assert "preprocessing.intensity: percentile" in said


@pytest.mark.parametrize("stripped", [True, False])
@pytest.mark.parametrize("vessels", [1, 4, 12])
def test_bright_eyes_fat_and_vessels_are_not_absurd(vessels, stripped):
    assert absurd(head(int(vessels), vessels, stripped)) == ""


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((1, 4, 4, 4)),
        np.arange(64.0).reshape(1, 4, 4, 4),
        np.eye(4).reshape(1, 1, 4, 4),
        np.random.default_rng(0).normal(size=(2, 9, 9, 9)),
        np.random.default_rng(0).integers(0, 2036, (1, 9, 9, 9)),
    ],
    ids=["zeros", "ramp", "binary", "standardised", "labels"],
)
def test_masks_labels_and_standardised_images_are_not_absurd(data):
    assert absurd(data.astype(np.float32)) == ""


@pytest.mark.oddity("absurd-voxel")
def test_absurd_begins_at_twenty_times_the_usual_distance_or_the_median():
    x = np.random.default_rng(0).uniform(400, 600, (1, 20, 20, 20)).astype(np.float32)
    for distance, found in ((19, False), (21, True), (-19, False), (-21, True)):
        x[0, 3, 3, 3] = 500 + 500 * distance
        assert bool(absurd(x)) is found, distance
    x = np.random.default_rng(0).normal(size=(1, 20, 20, 20)).astype(np.float32)
    usual = float(np.percentile(np.abs(x), 99.9))
    for distance, found in ((19, False), (21, True)):
        x[0, 3, 3, 3] = usual * distance
        assert bool(absurd(x)) is found, distance


def test_every_channel_is_judged_by_itself():
    x = np.concatenate([head(1, 2, True), head(2, 2, True) * 1e6])
    assert absurd(x) == ""
    x[1, 20, 20, 20] = 1e15
    assert "1e+15" in absurd(x)


@pytest.mark.oddity("absurd-voxel")
def test_the_check_of_a_file_warns_and_its_remedy_helps(tmp_path):
    x = head(0, 2, True)
    x[0, 20, 20, 20] = 1e9
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(x[0], np.diag([4.0, 4, 4, 1])), path)
    facts = examine((str(path), True))
    assert facts.code == ""
    assert [(code, text) for _, code, text in oddities([facts])] == [("absurd-voxels", facts.absurd)]
    swamped = Preprocessing().apply(read_volume(path))
    assert np.partition(swamped.ravel(), -2)[-2] < 0.1, "one voxel leaves no contrast to all others"
    repaired = Preprocessing(intensity="percentile").apply(read_volume(path))
    assert repaired[repaired != 0].std() > 0.2
    assert examine((str(path), False)).absurd == "", "voxels that are not read cannot be judged"


@pytest.mark.oddity("nan-background")
def test_nan_names_the_option_that_reads_it_and_inf_does_not():
    x = head(0, 2, True)
    x[x == 0] = np.nan
    code, text = unusable(x)
    assert code == "not-finite"
    assert "set preprocessing.nan: zero" in text
    x[0, 0, 0, 0] = np.inf
    code, text = unusable(x)
    assert "NaN or Inf" in text
    assert "preprocessing.nan" not in text


@pytest.mark.realdata
@pytest.mark.skipif(not (REAL / "brains4mm").is_dir(), reason=f"no real scans at {REAL}; set MEDSSL_REAL_DATA")
def test_no_real_brain_has_absurd_voxels_or_odd_units():
    paths = sorted((REAL / "brains4mm").glob("*.nii.gz"))
    facts = [examine((str(path), True)) for path in paths]
    assert len(facts) > 100
    assert [fact for fact in facts if fact.code or fact.absurd or fact.units] == []
