from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medssl.data.volumes.looks import FLOORS, MEASURES, look, look_at, orientation_of
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume

Grid = np.ndarray


def head(shape: tuple[int, int, int] = (40, 48, 40)) -> Grid:
    """An egg, longer at the back than at the front, dark at its rim; z-scored inside, 0 outside."""
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    r = np.sqrt((x / 14) ** 2 + (y / np.where(y > 0, 14, 21)) ** 2 + (z / 13) ** 2)
    out = np.where(r < 1, 2 - r**2 + 0.05 * np.random.default_rng(0).normal(size=shape), 0)
    inside = out != 0
    out[inside] = (out[inside] - out[inside].mean()) / out[inside].std()
    return out.astype(np.float32)


def seen(x: Grid, spacing: float = 4.0) -> dict[str, float]:
    return dict(zip(MEASURES, look(x[None], (spacing,) * 3)[0], strict=True))


def test_size_and_shape_are_those_of_the_mask():
    x = head()
    found = seen(x)
    inside = x != 0
    assert np.exp(found["volume"]) == pytest.approx(inside.sum() * 0.064, rel=0.05)
    assert found["filled"] == pytest.approx(inside.mean(), rel=0.05)
    places = np.argwhere(inside) - np.argwhere(inside).mean(0)
    sd = places.std(0)
    assert found["long_y"] == pytest.approx(np.log(sd[1] / sd[0]), abs=0.03)
    assert found["long_z"] == pytest.approx(np.log(sd[2] / sd[0]), abs=0.03)
    assert found["heavy_y"] == pytest.approx((places[:, 1] ** 3).mean() / sd[1] ** 3, abs=0.05)
    assert found["cut"] == 0
    assert found["depth"] > 0.7
    assert found["mirror"] > 0.9
    assert {name for name in MEASURES if np.isnan(found[name])} == {"finest", "coarsest", "fov_x", "fov_y", "fov_z"}
    assert set(FLOORS) == set(MEASURES)


@pytest.mark.parametrize(
    ("change", "name", "sign"),
    [
        (lambda x: -x, "depth", -1),
        (lambda x: x.max() - x, "depth", -1),
        (lambda x: np.where(x != 0, x, 1.0), "filled", 1),
        (lambda x: x[:, ::-1], "heavy_y", 1),
        (lambda x: np.swapaxes(x, 0, 1)[:, 4:44], "long_y", -1),
        (lambda x: np.swapaxes(x, 1, 2)[:, :, 4:44], "long_z", 1),
        (lambda x: ndimage.rotate(x, 30, (0, 1), reshape=False, order=0), "lean_xy", -1),
        (lambda x: ndimage.rotate(x, -30, (0, 1), reshape=False, order=0), "lean_xy", 1),
        (lambda x: np.where(np.arange(40) > 20, x, 0), "off_z", 1),
        (lambda x: np.roll(x, 8, 0), "off_x", 1),
        (lambda x: x[:, 14:], "cut", 1),
        (lambda x: ndimage.gaussian_filter(x, 1.5), "sharpness", -1),
    ],
)
def test_a_change_moves_the_measure_that_is_meant_for_it(change: Callable[[Grid], Grid], name: str, sign: int):
    x = head()
    before, after = seen(x)[name], seen(np.ascontiguousarray(change(x)))[name]
    assert sign * (after - before) / FLOORS[name] > 3, (before, after)


def test_finer_voxels_of_the_same_head_look_alike():
    x = head()
    fine, coarse = seen(ndimage.zoom(x, 2, order=0), 2.0), seen(x)
    for name in MEASURES:
        if name not in ("sharpness", "tails") and not np.isnan(coarse[name]):
            assert abs(fine[name] - coarse[name]) < 2 * FLOORS[name], name


def test_headers_tell_spacing_field_of_view_and_orientation(tmp_path: Path):
    turn = np.array([[0.0, 0, 4, 0], [4, 0, 0, 0], [0, -4, 0, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(head(), turn), tmp_path / "a.nii.gz")
    prep = Preprocessing(spacing=(4.0, 4.0, 4.0), shape=(40, 48, 40))
    made = prep.apply(read_volume(tmp_path / "a.nii.gz"))
    rows = look_at(made, [tmp_path / "a.nii.gz"], prep)
    assert rows.shape == (1, len(MEASURES) + 1)
    found = dict(zip(MEASURES, rows[0], strict=False))
    assert orientation_of(rows[0, -1]) == "AIR"
    assert np.exp([found["finest"], found["coarsest"]]) == pytest.approx([4, 4])
    assert np.exp([found["fov_x"], found["fov_y"], found["fov_z"]]) == pytest.approx([160, 160, 192])


def test_what_has_no_place_or_no_content_is_no_number_and_no_error(tmp_path: Path):
    assert np.isnan(look(np.ones((1, 30, 1, 1), np.float32), (1, 1, 1))).all()
    empty = seen(np.zeros((8, 8, 8), np.float32))
    assert empty["filled"] == 0
    assert np.isnan(empty["depth"])
    row = look_at(head()[None], [tmp_path / "gone.nii.gz"], Preprocessing())
    assert np.isnan(row).all(), "without a spacing nothing can be said"
