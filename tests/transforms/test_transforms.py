"""Common checks: every registered transform keeps the contract of ``Transform``."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.transforms import TRANSFORMS, Noise, Transform, arguments_of
from medssl.transforms.base import foreground_range

NAMES = sorted(TRANSFORMS)
SHAPES = [(1, 20, 24, 20), (1, 41, 47, 39), (3, 17, 12, 15), (1, 5, 3, 4)]


def drawn(name, shape, seed=1):
    transform = TRANSFORMS[name]()
    return transform, transform.sample(np.random.default_rng(seed), shape)


def test_all_announced_transforms_are_registered():
    assert NAMES == [
        "affine",
        "bias",
        "blur",
        "crop",
        "cutout",
        "flip",
        "gamma",
        "lowres",
        "mask_features",
        "noise",
        "zscore",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_fits_the_protocol_and_is_named_as_it_is_registered(name):
    transform = TRANSFORMS[name]()
    assert isinstance(transform, Transform)
    assert transform.name == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_returns_a_new_finite_float32_tensor_of_the_same_shape(name, shape, brain_of):
    x = brain_of(shape)
    before = x.clone()
    transform, params = drawn(name, shape)
    y = transform.apply(x, params)
    assert type(y) is torch.Tensor
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert torch.isfinite(y).all()
    assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_survive_json_and_replay_bit_for_bit(name, brain):
    transform, params = drawn(name, tuple(brain.shape))
    again = json.loads(json.dumps(params))
    assert again == params
    assert torch.equal(transform.apply(brain, again), transform.apply(brain, params))


@pytest.mark.parametrize("name", NAMES)
def test_drawing_depends_on_the_generator_only_and_no_global_state_moves(name, brain):
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    transform, params = drawn(name, tuple(brain.shape), seed=5)
    transform.apply(brain, params)
    assert params == drawn(name, tuple(brain.shape), seed=5)[1]
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"zscore"}))
def test_other_generators_draw_other_parameters(name):
    transform = TRANSFORMS[name](axes=(0, 1, 2)) if name == "flip" else TRANSFORMS[name]()
    rng = np.random.default_rng(0)
    assert len({json.dumps(transform.sample(rng, (1, 40, 48, 40))) for _ in range(20)}) > 2


@pytest.mark.parametrize("name", NAMES)
def test_arguments_rebuild_an_equal_transform_after_json(name):
    transform = TRANSFORMS[name]()
    assert TRANSFORMS[name](**json.loads(json.dumps(arguments_of(transform)))) == transform
    assert pickle.loads(pickle.dumps(transform)) == transform


@pytest.mark.parametrize("name", NAMES)
def test_takes_views_into_memory_and_other_number_types(name, brain):
    transform, params = drawn(name, tuple(brain.shape))
    strided = brain.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    expected = transform.apply(brain, params)
    assert torch.allclose(transform.apply(strided, params), expected, atol=1e-6)
    assert torch.allclose(transform.apply(brain.double(), params), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_volume_and_a_constant_one_stay_finite(name):
    shape = (1, 8, 9, 10)
    transform, params = drawn(name, shape)
    for value in (0.0, 2.5):
        assert torch.isfinite(transform.apply(torch.full(shape, value), params)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_without_channel_axis_is_refused_with_the_remedy(name):
    transform, params = drawn(name, (1, 8, 9, 10))
    with pytest.raises(UserError, match=r"x\[None\]"):
        transform.apply(torch.zeros(8, 9, 10), params)
    with pytest.raises(UserError, match="one volume"):
        transform.sample(np.random.default_rng(0), (8, 9, 10))


def test_a_metadata_tensor_is_taken_as_a_plain_tensor(brain):
    from monai.data import MetaTensor

    transform, params = drawn("flip", tuple(brain.shape))
    y = transform.apply(MetaTensor(brain), params)
    assert type(y) is torch.Tensor
    assert torch.equal(y, transform.apply(brain, params))


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("noise", "sd", -0.1),
        ("noise", "sd", [0.5, 0.1]),
        ("noise", "sd", [0.1, 0.2, 0.3]),
        ("noise", "sd", "strong"),
        ("noise", "sd", [0.1, float("nan")]),
        ("noise", "foreground", "yes"),
        ("blur", "sigma", 0.0),
        ("blur", "sigma", None),
        ("gamma", "gamma", [0.0, 1.0]),
        ("crop", "scale", 1.2),
        ("crop", "scale", 0),
        ("crop", "same_scale", 1),
        ("cutout", "size", [0.2, 1.5]),
        ("cutout", "value", "mean"),
        ("mask_features", "share", 1.2),
        ("mask_features", "share", [0.5, 0.1]),
        ("mask_features", "value", None),
        ("flip", "axes", []),
        ("flip", "axes", [3]),
        ("flip", "axes", [0, 0]),
        ("flip", "axes", [0.5]),
        ("flip", "idle", 2),
        ("lowres", "factor", [0.5, 2.0]),
        ("lowres", "same_factor", "no"),
        ("bias", "degree", 0),
        ("bias", "degree", 2.5),
        ("bias", "coefficients", [0.2, -0.2]),
        ("affine", "rotate", 200),
        ("affine", "translate", [-2, 2]),
        ("affine", "scale", [0, 1]),
        ("zscore", "per_channel", None),
    ],
)
def test_an_impossible_argument_is_refused_in_one_sentence_naming_it(name, argument, value):
    with pytest.raises(UserError) as caught:
        TRANSFORMS[name](**{argument: value})
    text = str(caught.value)
    assert text.startswith(f"{name}.{argument}")
    assert ", but it must be " in text
    assert repr(value) in text or isinstance(value, (list, tuple))
    assert text.count("\n") == 0


def test_a_single_number_is_a_fixed_value():
    assert Noise(sd=0.3).sd == (0.3, 0.3)
    assert Noise(sd=0.3).sample(np.random.default_rng(0), (1, 4, 4, 4))["sd"] == 0.3


def test_foreground_range_ignores_the_background_on_either_side():
    assert foreground_range(torch.tensor([0.0, 2.0, 5.0])) == (2.0, 5.0)
    assert foreground_range(torch.tensor([0.0, -2.0, -5.0])) == (-5.0, -2.0)
    assert foreground_range(torch.tensor([-1.0, 0.0, 3.0])) == (-1.0, 3.0)
    assert foreground_range(torch.tensor([0.0, 4.0, 4.0])) is None
    assert foreground_range(torch.zeros(3)) is None
