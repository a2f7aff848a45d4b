from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import torch

from medssl.encoders import ENCODERS, build_encoder
from medssl.errors import RecipeError

from . import checks
from .checks import TINY, scans, tiny

CONVOLUTIONAL = ("alexnet3d", "densenet121", "resnet18", "resnet50")


@pytest.mark.parametrize("name", TINY)
def test_passes_every_common_check(name, tmp_path):
    for check in (checks.check_shapes, checks.check_gradient, checks.check_bf16):
        check(tiny(name))
    for check in (checks.check_permutation, checks.check_repeatable):
        check(tiny(name))
    checks.check_file(tiny(name), tmp_path / "e.safetensors")


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_other_norms_replace_batch_norm_everywhere_and_pass(name, norm, tmp_path):
    shape = {"shape": (36, 36, 36)} if (name, norm) == ("alexnet3d", "instance") else {}
    encoder = tiny(name, norm=norm, **shape)
    kinds = {type(m).__name__ for m in encoder.modules() if "Norm" in type(m).__name__}
    assert kinds == {"GroupNorm" if norm == "group" else "InstanceNorm3d"}
    checks.check_shapes(encoder)
    checks.check_gradient(encoder)
    checks.check_permutation(tiny(name, norm=norm, **shape))
    checks.check_file(tiny(name, norm=norm, **shape), tmp_path / "e.safetensors")


@pytest.mark.parametrize("name", TINY)
def test_tiny_variants_stay_below_50_000_parameters(name):
    assert sum(p.numel() for p in tiny(name).parameters()) < 50_000


@pytest.mark.parametrize("name", TINY)
def test_spec_is_json_and_builds_the_same_encoder(name):
    encoder = tiny(name)
    spec = json.loads(json.dumps(encoder.spec))
    again = build_encoder(**spec)
    assert again.spec == encoder.spec == spec
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}


@pytest.mark.parametrize("name", TINY)
def test_a_deep_copy_is_equal_and_independent(name):
    encoder = tiny(name).eval()
    copy = deepcopy(encoder)
    x = scans(encoder)
    before = encoder(x).pooled
    assert torch.equal(copy(x).pooled, before)
    with torch.no_grad():
        for p in copy.parameters():
            p.zero_()
    assert torch.equal(encoder(x).pooled, before)
    assert copy.spec == encoder.spec


def test_numpy_numbers_in_a_shape_become_json():
    encoder = build_encoder("mlp", shape=tuple(np.array([3, 4, 5])), hidden=[np.int64(8)])
    assert json.loads(json.dumps(encoder.spec))["shape"] == [3, 4, 5]


def test_every_name_has_a_line_and_a_tiny_variant():
    assert {spec["name"] for spec in TINY.values()} == set(ENCODERS)
    assert all(len(line) > 20 for line in ENCODERS.values())


@pytest.mark.parametrize("name", [n for n in TINY if n != "mlp"])
def test_several_images_per_scan_are_channels(name):
    encoder = tiny(name, in_channels=2)
    assert encoder(scans(encoder)).pooled.shape == (4, encoder.dim)


@pytest.mark.parametrize("name", TINY)
def test_wrong_channel_count_names_expected_and_given(name):
    encoder = tiny(name)
    x = torch.zeros(2, 3, *encoder.spec["shape"])
    with pytest.raises(RecipeError, match=r"180" if name == "mlp" else r"\(N, 1, D, H, W\).*\(2, 3, "):
        encoder(x)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_too_small_an_input_names_both_sizes_when_built_and_when_run(name):
    encoder = tiny(name)
    side = encoder.smallest[0]
    assert encoder.eval()(torch.zeros(2, 1, side, side, side)).pooled.shape == (2, encoder.dim)
    with pytest.raises(RecipeError, match=rf"at least .*{side}.*\({side - 1}, 40, 40\)"):
        encoder(torch.zeros(2, 1, side - 1, 40, 40))
    with pytest.raises(RecipeError, match=r"at least"):
        tiny(name, shape=(1, 40, 40))


def test_convolutions_take_any_size_above_the_smallest():
    for name in CONVOLUTIONAL:
        encoder = tiny(name)
        assert encoder(torch.zeros(2, 1, 33, 37, 35)).pooled.shape == (2, encoder.dim)


def test_unknown_encoder_and_argument_name_the_nearest_one():
    with pytest.raises(RecipeError, match=r"encoder.name is 'resnet19', which is unknown; did you mean 'resnet18'"):
        build_encoder("resnet19")
    with pytest.raises(RecipeError, match=r"encoder.widht is no argument of 'resnet18'; did you mean 'encoder.width'"):
        build_encoder("resnet18", widht=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "bach"}, "encoder.norm is 'bach'.*did you mean 'batch'"),
        ({"stem": "tiny"}, "encoder.stem is 'tiny', but it must be 'imagenet' or 'small'"),
        ({"width": 0}, "encoder.width is 0, but it must be a whole number from 1 to 16384"),
        ({"width": 2.5}, "encoder.width is 2.5, but it must be a whole number"),
        ({"depth": [1, 1, 1, 1, 1]}, "encoder.depth is .*a list of 1 to 4 values"),
        ({"depth": 2}, "encoder.depth is 2, but it must be a list"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"shape": [32, 32]}, r"shape is \[32, 32\], but it must be a list of 3"),
    ],
)
def test_impossible_arguments_are_one_sentence(arguments, message):
    with pytest.raises(RecipeError, match=message) as caught:
        build_encoder("resnet18", **arguments)
    assert "\n" not in str(caught.value)


def test_an_input_that_is_no_batch_of_volumes_says_how_to_make_one():
    encoder = tiny("resnet18")
    for wrong in (torch.zeros(16, 18, 17), np.zeros((16, 18, 17)), [1.0]):
        with pytest.raises(RecipeError, match=r"expects a torch tensor .*\[None, None\]"):
            encoder(wrong)
