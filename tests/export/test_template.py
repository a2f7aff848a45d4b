from __future__ import annotations

import re
import types
from importlib import resources

import numpy as np
import pytest
import torch
from scipy import ndimage

from medssl.data.volumes import resample
from medssl.export.template import ENCODERS, MARK, estimator_source
from medssl.export.textscan import forbidden, too_new
from medssl.transforms.zscore import ZScore

RNG = np.random.default_rng(0)
CONFIG = {"encoder": {"name": "mlp", "in_channels": 1, "shape": [3]}, "features": 2, "columns": None}


@pytest.fixture(scope="module")
def text() -> types.ModuleType:
    """The functions of a submission."""
    module = types.ModuleType("submission")
    exec(estimator_source(CONFIG), module.__dict__)
    return module


@pytest.mark.parametrize("sigma", [0.3, 0.61, 1.64, 2.5])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_smoothing_has_the_bits_of_scipy(text: types.ModuleType, sigma: float, axis: int):
    for x in (RNG.standard_normal((9, 14, 6)).astype(np.float32), RNG.random((9, 14, 6)) > 0.5):
        x = np.asarray(x, np.float32)
        wanted = ndimage.gaussian_filter1d(x, sigma, axis=axis, mode="nearest", output=np.float32)
        assert np.array_equal(text.smooth(x, axis, sigma), wanted)


@pytest.mark.parametrize("ratio", [(1, 1, 1), (4, 4, 4), (2.5, 1, 0.7), (1.0004, 1.5, 3)])
@pytest.mark.parametrize("shape", [(5, 6, 7), (20, 9, 31)])
def test_resampling_cropping_and_padding_have_the_bits_of_medssl(
    text: types.ModuleType, ratio: tuple[float, ...], shape: tuple[int, ...]
):
    for x in (RNG.standard_normal((12, 13, 9)).astype(np.float32), RNG.random((12, 13, 9)) > 0.3):
        assert np.array_equal(text.centred(x, ratio, shape), resample.centred(x, ratio, shape))


def test_masks_are_those_of_medssl_with_all_holes_filled(text: types.ModuleType):
    for share in (0.02, 0.3, 0.5, 0.7, 0.98):
        for _ in range(5):
            mask = RNG.random((11, 8, 13)) < share
            assert np.array_equal(text.fill_holes(mask), resample.fill_holes(mask))
    maze = np.ones((9, 9, 9), bool)  # a winding tunnel that only some of many sweeps reach
    maze[4, 1:8, 1] = maze[4, 7, 1:8] = maze[4, 1:8, 7] = maze[1:5, 1, 7] = maze[1, 1, 3:8] = maze[0:2, 1, 3] = False
    for solid in (maze, ~maze, np.zeros_like(maze)):
        assert np.array_equal(text.fill_holes(solid), resample.fill_holes(solid))
    x = RNG.gamma(2, 1, (11, 8, 13)).astype(np.float32)
    assert text.otsu_threshold(x) == resample.otsu_threshold(x)
    for kind, wanted in (("nonzero", resample.nonzero_mask(x)), ("otsu", resample.otsu_mask(x))):
        assert np.array_equal(text.mask_of(x, kind), wanted)
    assert text.mask_of(x, "none").all()


@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_z_scores_are_those_of_the_view_policies(text: types.ModuleType, foreground: bool, per_channel: bool):
    x = torch.from_numpy(RNG.standard_normal((2, 5, 6, 7)).astype(np.float32)) * 3 + 1
    x[:, 2] = 0
    for scan in (x, torch.zeros_like(x), torch.ones_like(x)):
        kept = scan.clone()
        wanted = ZScore(foreground=foreground, per_channel=per_channel).apply(scan, {})
        assert torch.allclose(text.zscore(scan, foreground, per_channel), wanted, atol=1e-6)
        assert torch.equal(scan, kept)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_text_is_clean_readable_for_python_38_and_complete(encoder: str):
    source = estimator_source({**CONFIG, "encoder": {"name": encoder}})
    assert source.startswith(f'"""{MARK}')
    assert (forbidden(source), too_new(source)) == (None, None)
    assert not re.search(r"@[A-Z_]+@", source), "no place is left to be filled"
    assert "medssl" not in "".join(line for line in source.splitlines() if "import" in line)
    compile(source, "estimator.py", "exec")


def test_only_the_encoder_that_is_needed_is_written():
    source = estimator_source({**CONFIG, "encoder": {"name": "alexnet3d"}})
    assert source.count("class Encoder") == 1
    assert "Bottleneck" not in source


def test_the_pieces_are_part_of_the_package():
    pieces = resources.files("medssl") / "export" / "pieces"
    held = {p.name for p in pieces.iterdir()}
    assert held == {f"{n}.py.txt" for n in {"top", "rows", "preprocess", "layers", "estimator", *ENCODERS.values()}}
    assert max(len(p.read_text().splitlines()) for p in pieces.iterdir()) <= 300
