from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy import ndimage

from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.scan import Volume
from medssl.data.volumes.volume import read_volume
from medssl.errors import RecipeError, StaleError, VolumeError


def volume(data, spacing=(1.0, 1.0, 1.0)) -> Volume:
    data = np.asarray(data, np.float32)
    data = data[None] if data.ndim == 3 else data
    return Volume(data, np.diag([*spacing, 1.0]), np.array(spacing), "scan.nii.gz")


def brain(shape=(20, 24, 18), seed=0):
    """Positive intensities inside an ellipsoid, 0 outside."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij"))
    noise = np.random.default_rng(seed).random(shape) * 50 + 100
    return np.where((grid**2).sum(0) < 1, noise, 0).astype(np.float32)


def test_zscore_has_mean_0_and_std_1_inside_and_exactly_0_outside_the_mask():
    x = brain()
    out = Preprocessing().apply(volume(x))
    assert out.shape == (1, *x.shape)
    assert out.dtype == np.float32
    inside = x != 0
    expected = (x[inside] - x[inside].mean(dtype=float)) / x[inside].std(dtype=float)
    np.testing.assert_allclose(out[0][inside], expected, atol=1e-5)
    assert (out[0][~inside] == 0).all()


def test_percentiles_1_and_99_inside_the_mask_become_0_and_1():
    x = brain()
    out = Preprocessing(intensity="percentile").apply(volume(x))[0]
    low, high = np.percentile(x[x != 0], [1, 99])
    np.testing.assert_allclose(out[x != 0], np.clip((x[x != 0] - low) / (high - low), 0, 1), atol=1e-6)
    assert out.min() == 0
    assert out.max() == 1
    assert (out[x == 0] == 0).all()


def test_intensity_none_keeps_what_is_stored():
    x = brain()
    np.testing.assert_array_equal(Preprocessing(intensity="none").apply(volume(x))[0], x)


def test_mask_none_uses_every_voxel_and_padding_stays_outside():
    x = brain() + 7
    out = Preprocessing(mask="none", shape=(30, 30, 30)).apply(volume(x))[0]
    middle = out[5:25, 3:27, 6:24]
    np.testing.assert_allclose(middle, (x - x.mean(dtype=float)) / x.std(dtype=float), atol=1e-5)
    assert np.count_nonzero(out) <= middle.size


def test_a_dark_hole_inside_the_brain_belongs_to_the_brain():
    x = brain()
    x[9:11, 11:13, 8:10] = 0
    out = Preprocessing().apply(volume(x))[0]
    assert (out[9:11, 11:13, 8:10] < -3).all()


def test_the_otsu_mask_is_the_head_before_the_air():
    rng = np.random.default_rng(1)
    head = brain() + np.abs(rng.normal(0, 3, (20, 24, 18))).astype(np.float32)
    out = Preprocessing(mask="otsu").apply(volume(head))[0]
    np.testing.assert_array_equal(out != 0, brain() != 0)


def test_channels_are_scaled_each_by_itself():
    x = np.stack([brain(seed=0), brain(seed=1) * 30])
    out = Preprocessing().apply(volume(x))
    for k in range(2):
        np.testing.assert_array_equal(out[k], Preprocessing().apply(volume(x[k]))[0])


def test_resampling_equals_gaussian_then_linear_interpolation_about_the_centre():
    x = brain()
    spacing, new = np.array([1.0, 1.0, 2.0]), np.array([2.5, 3.0, 1.0])
    ratio = new / spacing
    out = Preprocessing(spacing=tuple(new), intensity="none").apply(volume(x, tuple(spacing)))[0]
    sigma = [np.sqrt(max(0, r**2 - 1) / (8 * np.log(2))) for r in ratio]
    smooth = ndimage.gaussian_filter(x, sigma, mode="nearest")
    shape = np.floor(np.array(x.shape) / ratio + 0.5).astype(int)
    offset = (np.array(x.shape) - 1) / 2 - ratio * (shape - 1) / 2
    expected = ndimage.affine_transform(smooth, ratio, offset, tuple(shape), order=1, mode="nearest")
    assert out.shape == tuple(shape)
    np.testing.assert_allclose(out, expected, atol=1e-3)


@pytest.mark.parametrize("shape", [None, (12, 12, 12), (31, 20, 9)])
def test_a_centred_object_stays_centred_and_keeps_its_size_in_mm(shape):
    grid = np.stack(np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij"))
    x = np.exp(-(grid**2).sum(0) / (2 * 4.0**2)).astype(np.float32)
    out = Preprocessing(spacing=2, shape=shape, intensity="none").apply(volume(x))[0]
    for axis in range(3):
        profile = out.sum(axis=tuple(a for a in range(3) if a != axis)).astype(float)
        place = (np.arange(len(profile)) - (len(profile) - 1) / 2) * 2
        assert abs((profile * place).sum() / profile.sum()) < 1e-4
    middle = Preprocessing(spacing=2, intensity="none").apply(volume(x))[0].sum(axis=(1, 2)).astype(float)
    place = (np.arange(20) - 9.5) * 2
    width = np.sqrt((middle * place**2).sum() / middle.sum())
    assert width == pytest.approx(np.sqrt(16 + 3 / (8 * np.log(2)) + 2 / 3), abs=0.15)


def test_shape_and_spacing_together_give_exactly_the_shape_with_zeros_outside_the_field_of_view():
    out = Preprocessing(spacing=0.5, shape=(60, 60, 60), intensity="none").apply(
        volume(np.ones((20, 20, 20)) + brain((20, 20, 20)))
    )
    assert out.shape == (1, 60, 60, 60)
    assert (out[0, 10:50, 10:50, 10:50] > 0).all()
    assert out[0, :10].sum() == out[0, :, 50:].sum() == 0


def test_smoothing_does_not_widen_the_mask():
    x = np.zeros((40, 40, 40), np.float32)
    x[10:30, 10:30, 10:30] = 100 + np.random.default_rng(0).random((20, 20, 20))
    out = Preprocessing(spacing=4).apply(volume(x))[0]
    assert np.count_nonzero(out) == np.count_nonzero(out[2:8, 2:8, 2:8])
    assert abs(out[out != 0].mean()) < 1e-5


def test_nearly_equal_spacing_is_not_interpolated():
    x = brain()
    same = Preprocessing(spacing=1, intensity="none").apply(volume(x, (1.0002, 0.9999, 1.0)))[0]
    np.testing.assert_array_equal(same, x)


@pytest.mark.parametrize("spacing", [None, 2.0, (1.5, 0.7, 3.0)])
@pytest.mark.parametrize("shape", [None, (16, 16, 16)])
def test_the_output_shape_is_known_from_the_header(spacing, shape):
    prep = Preprocessing(spacing=spacing, shape=shape)
    for size, mm in (((20, 24, 18), (1.0, 1.0, 1.0)), ((21, 13, 30), (0.9, 1.2, 1.7))):
        assert prep.apply(volume(brain(size), mm)).shape[1:] == prep.output_shape(size, mm)


def test_nan_infinite_constant_and_empty_scans_are_refused_by_name():
    bad = brain()
    bad[0, 0, :2] = np.nan, np.inf
    cases = [
        (bad, {}, "2 voxels that are NaN or infinite"),
        (np.zeros((4, 4, 4)), {}, "constant"),
        (np.full((4, 4, 4), 3), {"intensity": "none"}, "constant"),
        ((brain() > 0).astype(float), {}, "constant inside the mask"),
        ((brain() > 0).astype(float), {"intensity": "percentile"}, "constant inside the mask"),
        (np.pad(brain(), ((0, 200), (0, 0), (0, 0))), {"shape": (4, 4, 4)}, "no voxel inside the mask"),
    ]
    for data, recipe, words in cases:
        with pytest.raises(VolumeError, match=words) as caught:
            Preprocessing(**recipe).apply(volume(data))
        assert "scan.nii.gz" in str(caught.value)


@pytest.mark.oddity("nan-background")
@pytest.mark.parametrize("recipe", [{}, {"mask": "otsu"}, {"intensity": "percentile", "spacing": 2}, {"shape": 30}])
def test_a_nan_background_gives_what_a_background_of_zero_gives_where_it_is_asked_for(recipe):
    zeros = brain()
    nans = np.where(zeros == 0, np.nan, zeros)
    given = volume(nans)
    with pytest.raises(VolumeError, match=r"voxels that are NaN; set preprocessing\.nan: zero, or"):
        Preprocessing(**recipe).apply(given)
    out = Preprocessing(**recipe, nan="zero").apply(given)
    np.testing.assert_array_equal(out, Preprocessing(**recipe).apply(volume(zeros)))
    assert np.isnan(given.data).any(), "the caller's voxels were changed"


@pytest.mark.oddity("nan-background")
def test_infinite_voxels_and_scans_of_nothing_but_nan_stay_errors():
    bad = brain()
    bad[0, 0, :3] = np.nan, np.inf, -np.inf
    with pytest.raises(VolumeError, match=r"3 voxels that are NaN or infinite \(2 are infinite\); replace"):
        Preprocessing(nan="zero").apply(volume(bad))
    bad[0, 0, 0] = 0
    with pytest.raises(VolumeError, match="2 voxels that are infinite; replace"):
        Preprocessing(nan="zero").apply(volume(bad))
    with pytest.raises(VolumeError, match="constant"):
        Preprocessing(nan="zero").apply(volume(np.full((4, 4, 4), np.nan)))


def test_the_option_for_nan_is_written_only_where_it_is_set_so_that_digests_and_caches_stay():
    assert Preprocessing().digest == "d8c267a7d47bf1b550c75ab2b4b47cb1d0692d187209455d4d66cb05a7ed980c"
    four = Preprocessing(spacing=4, shape=(40, 48, 40))
    assert four.digest == "c66443f38a3d3d6f9445536a1b3bcc635e998139e34b8d3612c3e253d74e8278"
    assert "nan" not in four.to_dict()
    asked = Preprocessing(spacing=4, shape=(40, 48, 40), nan="zero")
    assert asked.to_dict()["nan"] == "zero"
    assert asked.digest != four.digest
    assert Preprocessing.from_dict(asked.to_dict()) == asked
    assert Preprocessing.from_dict({**four.to_dict(), "nan": "error"}) == four


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_zscore_does_not_depend_on_the_unit(scale):
    one, two = Preprocessing().apply(volume(brain())), Preprocessing().apply(volume(brain() * scale))
    np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"spacing": (1, 2)}, "a list of 3 values, each a number from 0.01 to 100 .mm., or one for all"),
        ({"spacing": (1, 2, -1)}, r"preprocessing\.spacing\.2 is -1"),
        ({"spacing": "2"}, "is '2', but it must be a list of 3"),
        ({"spacing": float("nan")}, "is nan, but it must be"),
        ({"shape": (10, 10, 10.5)}, r"shape\.2 is 10\.5, but it must be a whole number"),
        ({"shape": True}, "whole number .*, not true or false"),
        ({"shape": 0}, "is 0, but it must be a whole number from 1"),
        ({"intensity": "zscor"}, "did you mean 'zscore'"),
        ({"mask": "brain"}, "'nonzero', 'otsu' or 'none'"),
        ({"spacin": 2}, "did you mean 'preprocessing.spacing'"),
        ({"nan": "zeros"}, "did you mean 'zero'"),
        ({"nan": 0}, "'error' or 'zero'"),
    ],
)
def test_impossible_recipes_are_refused_with_the_rule(recipe, words):
    with pytest.raises(RecipeError, match=words):
        Preprocessing.from_dict(recipe)


def test_the_recipe_survives_json_and_its_digest_follows_every_field():
    prep = Preprocessing(spacing=[2, 2, 2.5], shape=[40, 48, 40], intensity="percentile", mask="otsu")
    assert prep.spacing == (2.0, 2.0, 2.5)
    assert prep.shape == (40, 48, 40)
    again = Preprocessing.from_dict(json.loads(json.dumps(prep.to_dict())))
    assert again == prep
    assert again.digest == prep.digest
    others = [Preprocessing(), Preprocessing(spacing=2), Preprocessing(shape=2), Preprocessing(mask="none")]
    others.append(Preprocessing(intensity="none"))
    assert len({p.digest for p in [prep, *others]}) == 6
    assert Preprocessing(spacing=2) == Preprocessing(spacing=(2.0, 2.0, 2.0))
    with pytest.raises(StaleError, match="version 0"):
        Preprocessing.from_dict({**prep.to_dict(), "version": 0})


def test_the_bytes_are_the_same_in_another_process():
    code = """
        import hashlib
        import numpy as np
        from medssl.data.volumes.preprocess import Preprocessing
        from medssl.data.volumes.scan import Volume
        x = np.random.default_rng(0).random((1, 20, 21, 22), dtype=np.float32)
        out = Preprocessing(spacing=1.7, shape=10, mask="otsu").apply(Volume(x, np.eye(4), np.ones(3)))
        digest = hashlib.sha256(out.tobytes()).hexdigest()
        print(digest)
    """
    code = textwrap.dedent(code)
    here: dict[str, object] = {}
    exec(code, here)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(str(here["digest"])) == 64
    assert there.stdout.strip() == here["digest"]


@pytest.mark.realdata
def test_real_brains_are_the_same_by_both_readers_and_scale_inside_the_brain(real_data):
    for path in sorted((real_data / "brains4mm").glob("*.nii.gz"))[::20]:
        one, two = read_volume(path), read_volume(path, "sitk")
        np.testing.assert_array_equal(one.data, two.data)
        np.testing.assert_allclose(one.affine, two.affine, atol=1e-5)
        out = Preprocessing().apply(one)
        assert out.shape == (1, 40, 48, 40)
        assert abs(out[one.data != 0].mean()) < 0.01
        assert 0.05 < np.count_nonzero(out) / out.size < 0.5
