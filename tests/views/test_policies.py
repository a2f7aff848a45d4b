from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from medssl.errors import RecipeError, UserError
from medssl.transforms import Cutout, Flip, Noise, ZScore
from medssl.views import POLICIES, Policy, Slot, build_policy

NAMES = sorted(POLICIES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 20, 24, 20), (1, 41, 47, 39), (2, 13, 12, 15)])
def test_every_policy_keeps_shape_and_number_type_and_leaves_the_scan_alone(name, shape, brain_of):
    x = brain_of(shape)
    before = x.clone()
    policy = build_policy(name)
    for seed in range(6):
        y = policy.apply(x, policy.sample(np.random.default_rng(seed), shape))
        assert y.shape == x.shape
        assert y.dtype == torch.float32
        assert torch.isfinite(y).all()
        assert y.data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_replay_from_json_is_bit_identical(name, brain):
    policy = build_policy(name)
    for seed in range(6):
        drawn = policy.sample(np.random.default_rng(seed), tuple(brain.shape))
        again = json.loads(json.dumps(drawn))
        assert again == drawn
        assert torch.equal(policy.apply(brain, again), policy.apply(brain, drawn))


@pytest.mark.parametrize("name", NAMES)
def test_the_resolved_list_rebuilds_the_policy_after_yaml(name):
    policy = build_policy(name)
    again = build_policy(yaml.safe_load(yaml.safe_dump(policy.to_list())))
    assert again.slots == policy.slots
    assert build_policy(policy) is policy


def test_yaware_is_the_papers_pipeline():
    assert build_policy("yaware").to_list() == [
        {"zscore": {"p": 1.0, "foreground": False, "per_channel": False}},
        {"flip": {"p": 0.5, "axes": [0, 1, 2], "idle": 0.25}},
        {"blur": {"p": 0.5, "sigma": [0.1, 1.0], "foreground": False}},
        {"noise": {"p": 0.5, "sd": [0.1, 1.0], "foreground": False}},
        {"cutout": {"p": 0.5, "size": [0.25, 0.25], "same_size": False, "value": 0.0}},
        {"crop": {"p": 0.5, "scale": [0.75, 0.75], "same_scale": True}},
    ]


def test_yaware_flips_each_axis_in_one_view_of_eight():
    policy, rng = build_policy("yaware"), np.random.default_rng(0)
    slots = [policy.sample(rng, (1, 8, 8, 8))[1] for _ in range(4000)]
    axes = [slot["params"]["axis"] for slot in slots if slot is not None]
    assert abs(len(axes) / 4000 - 0.5) < 0.03
    for axis in (0, 1, 2, None):
        assert abs(axes.count(axis) / 4000 - 0.125) < 0.02


def test_coins_of_different_slots_are_independent():
    policy, rng = build_policy("yaware"), np.random.default_rng(0)
    coins = np.array([[e is not None for e in policy.sample(rng, (1, 8, 8, 8))] for _ in range(2000)], float)
    assert coins[:, 0].all()
    assert np.abs(np.corrcoef(coins[:, 1:].T) - np.eye(5)).max() < 0.08


def test_cutout_and_crop_always_apply_their_one_transform_after_the_z_score(brain):
    for name in ("cutout", "crop"):
        drawn = build_policy(name).sample(np.random.default_rng(0), tuple(brain.shape))
        assert [e["name"] for e in drawn] == ["zscore", name]


def test_none_and_probability_zero_are_copies(brain):
    off = Policy(tuple(Slot(slot.transform, 0.0) for slot in build_policy("robust").slots))
    for policy in (build_policy("none"), off, build_policy([])):
        y = policy.apply(brain, policy.sample(np.random.default_rng(0), tuple(brain.shape)))
        assert torch.equal(y, brain)
        assert y.data_ptr() != brain.data_ptr()


def test_robust_keeps_the_background_empty_and_the_brain_standardised(brain):
    policy = build_policy("robust")
    for seed in range(10):
        drawn = policy.sample(np.random.default_rng(seed), tuple(brain.shape))
        drawn = [e if e is not None and e["name"] not in ("crop", "cutout") else None for e in drawn]
        y = policy.apply(brain, drawn)
        mask = brain if drawn[0] is None else torch.flip(brain, (1,))
        assert torch.count_nonzero(y[mask == 0]) == 0
        inside = y[mask != 0]
        assert abs(inside.mean().item()) < 0.05
        assert 0.95 < inside.std().item() < 1.1


def test_robust_hides_the_gain_and_offset_of_a_scanner(brain):
    policy = build_policy("robust")
    other = torch.where(brain != 0, brain * 3 + 0.5, brain)
    drawn = policy.sample(np.random.default_rng(1), tuple(brain.shape))
    drawn = [None if e is not None and e["name"] in ("bias", "noise") else e for e in drawn]
    assert torch.allclose(policy.apply(ZScore().apply(other, {}), drawn), policy.apply(brain, drawn), atol=1e-3)


def test_clean_applies_only_the_sure_z_scores(brain):
    x = brain * 4 + 2
    assert torch.equal(build_policy("yaware").clean(x), ZScore(foreground=False, per_channel=False).apply(x, {}))
    assert torch.allclose(build_policy("robust").clean(brain), brain, atol=1e-5)
    assert torch.equal(build_policy("none").clean(x), x)


def test_a_list_from_yaml_is_read_with_defaults_and_names():
    policy = build_policy(
        yaml.safe_load("[{flip: {p: 0.5, axes: [0]}}, {noise: {p: 0.25, sd: [0.1, 0.5]}}, cutout, {zscore: null}]")
    )
    assert policy.slots == (
        Slot(Flip(axes=(0,)), 0.5),
        Slot(Noise(sd=(0.1, 0.5)), 0.25),
        Slot(Cutout(), 1.0),
        Slot(ZScore(), 1.0),
    )
    assert policy.name == "custom"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("robus", "views.policy is 'robus', which is no policy; did you mean 'robust'?"),
        ("xyzzy", "known: crop, cutout, none, robust, table, yaware"),
        ([{"noize": {}}], "views.policy.0 is 'noize', which is no transform; did you mean 'noise'?"),
        (["flip", {"noise": {"sigmas": 1}}], "views.policy.1.noise.sigmas is no argument of 'noise'"),
        ([{"crop": {"scales": 0.5}}], "scales is no argument of 'crop'; did you mean 'views.policy.0.crop.scale'?"),
        ([{"crop": {"p": 1.5}}], "views.policy.0.crop.p is 1.5, but it must be a number from 0 to 1"),
        ([{"crop": {"p": True}}], "crop.p is True, but"),
        ([{"crop": {"scale": 2}}], "views.policy.0.crop.scale is 2, but it must"),
        ([{"crop": {}, "flip": {}}], "one name with its arguments"),
        ([{"crop": 0.5}], "one name with its arguments"),
        ([3], "views.policy.0 is 3"),
        (7, "views.policy is 7, but it must be a name"),
        ({"flip": {}}, "views.policy is {'flip': {}}, but it must be a name"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_sentence_with_the_nearest_name(spec, text):
    with pytest.raises(RecipeError) as caught:
        build_policy(spec)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_of_another_policy_are_refused(brain):
    drawn = build_policy("cutout").sample(np.random.default_rng(0), tuple(brain.shape))
    with pytest.raises(UserError, match="has 7 slots"):
        build_policy("robust").apply(brain, drawn)
    with pytest.raises(UserError, match="are for 'cutout', but that slot of the policy 'crop' is 'crop'"):
        build_policy("crop").apply(brain, drawn)


def test_two_views_can_share_the_parameters_of_some_slots(brain):
    policy = build_policy([{"crop": {"scale": [0.5, 0.9]}}, {"noise": {"sd": 0.2}}])
    shape = tuple(brain.shape)
    query, other = (policy.sample(np.random.default_rng(s), shape) for s in (0, 1))
    shared = [query[0], other[1]]
    difference = policy.apply(brain, shared) - policy.apply(brain, query)
    only_noise = policy.apply(brain, [query[0], None])
    assert torch.allclose(policy.apply(brain, shared) - only_noise, other_noise(policy, brain, other), atol=1e-6)
    assert difference.std() > 0.2


def other_noise(policy, x, drawn):
    zero = torch.zeros_like(x)
    return policy.apply(zero, [None, drawn[1]])
