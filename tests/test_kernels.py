from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from medssl import kernels
from medssl.errors import RecipeError, UserError
from medssl.kernels import (
    Categorical,
    Cauchy,
    Rbf,
    bandwidth,
    box,
    build_kernel,
    categorical,
    cauchy,
    check_kernels,
    delta,
    kernel_of,
    product,
    rbf,
)
from medssl.losses import lse
from medssl.types import Facts

NAN = float("nan")
AGES = torch.tensor([20.0, 25.0, 40.0], dtype=torch.float64)
ALL = [rbf(5.0), cauchy(0.5), box(6.0), delta(), categorical()]


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_a_kernel_is_one_at_equality_symmetric_and_at_most_one(kernel):
    distance, logw = kernel(AGES, AGES)
    assert (logw.diagonal() == 0).all()
    assert (distance.diagonal() == 0).all()
    assert torch.equal(logw, logw.T)
    assert (logw <= 0).all()
    assert (logw >= -1e9).all()
    assert logw.dtype == distance.dtype == torch.float64


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_weights_never_grow_with_distance_and_rectangles_work(kernel):
    distance, logw = kernel(AGES[:1], torch.tensor([20.0, 21.0, 22.0, 30.0, 90.0], dtype=torch.float64))
    assert logw.shape == distance.shape == (1, 5)
    assert (logw.diff() <= 0).all()


def test_the_gaussian_is_a_density_as_in_the_published_code():
    gaussian = build_kernel("gaussian", 1.0)
    distance, logw = gaussian(AGES, AGES)
    d = (AGES[:, None] - AGES).abs()
    expected = torch.exp(-(d**2) / 2) / (2 * torch.pi) ** 0.5
    torch.testing.assert_close(logw.exp(), expected, rtol=1e-12, atol=0)
    assert logw.exp().max().item() == pytest.approx(0.398942, abs=1e-6)
    assert torch.equal(distance, d)
    wide = build_kernel("gaussian", 5.0)
    assert wide(AGES, AGES)[1].exp().max().item() == pytest.approx(0.398942 / 5, abs=1e-6)
    assert wide.unscaled == rbf(5.0)
    assert product([wide, delta()]).unscaled == product([rbf(5.0), delta()])
    assert pickle.loads(pickle.dumps(wide)) == wide != rbf(5.0)


def test_a_sharp_kernel_is_one_at_equality_and_zero_elsewhere():
    for kernel in ALL:
        weights = set(kernel(AGES, AGES)[1].flatten().tolist())
        assert kernel.sharp == (weights == {0.0, -1e9} and kernel.name != "box")


def test_kernels_follow_their_formulas():
    d = (AGES[:, None] - AGES).abs()
    torch.testing.assert_close(rbf(3.0)(AGES, AGES)[1], -(d**2) / 18)
    torch.testing.assert_close(cauchy(0.5)(AGES, AGES)[1].exp(), 1 / (1 + 0.5 * d**2))
    assert box(5.0)(AGES, AGES)[1][0].tolist() == [0.0, 0.0, -1e9]
    assert box(5.0, strict=True)(AGES, AGES)[1][0].tolist() == [0.0, -1e9, -1e9]
    assert delta()(AGES, AGES)[1][0].tolist() == [0.0, -1e9, -1e9]
    assert categorical()(torch.tensor([1, 2]), torch.tensor([1, 2, 1]))[1].tolist() == [
        [0.0, -1e9, 0.0],
        [-1e9, 0.0, -1e9],
    ]
    torch.testing.assert_close(rbf(5.0)(AGES, AGES)[0], d)


def test_log_weights_keep_the_order_where_weights_underflow():
    y = torch.tensor([10.0, 60.0, 70.0, 80.0])
    logw = rbf(1.0)(y[:1], y)[1]
    assert (logw.exp()[0, 1:] == 0).all()
    assert (logw.diff() < 0).all()


def test_a_wide_kernel_is_uniform_and_a_narrow_one_is_clamped():
    assert rbf(1e9)(AGES, AGES)[1].abs().max() < 1e-12
    assert rbf(1e-6)(AGES, AGES)[1].min() == -1e9


def test_resolution_makes_distances_tie_that_differ_by_rounding():
    y = torch.tensor([30.1, 29.8, 30.4], dtype=torch.float64)
    plain, rounded = rbf(5.0)(y[:1], y)[0], rbf(5.0, resolution=1e-6)(y[:1], y)[0]
    assert plain[0, 1] != plain[0, 2]
    assert rounded[0, 1] == rounded[0, 2]


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_a_missing_label_gives_nan(kernel):
    distance, logw = kernel(torch.tensor([20.0, NAN]), torch.tensor([20.0]))
    assert logw.isnan().flatten().tolist() == [False, True]
    assert distance.isnan().flatten().tolist() == [False, True]


def test_negative_codes_are_missing_categories_only():
    codes = torch.tensor([-1, 2])
    assert categorical()(codes, codes)[1].isnan().tolist() == [[True, True], [True, False]]
    assert delta()(codes.double(), codes.double())[1].diagonal().tolist() == [0.0, 0.0]


def test_half_precision_labels_are_computed_in_float32():
    y = torch.tensor([20.0, 21.0], dtype=torch.bfloat16)
    assert rbf(5.0)(y, y)[1].dtype == torch.float32


def test_a_product_multiplies_its_factors_and_leaves_missing_ones_out():
    y = torch.tensor([[20.0, 0.0], [25.0, 0.0], [20.0, 1.0], [NAN, 0.0], [NAN, NAN]])
    distance, logw = product([rbf(5.0), categorical()])(y, y)
    assert logw[0, :4].tolist() == [0.0, -0.5, -1e9, 0.0]
    assert logw[4].isnan().all()
    assert logw.nan_to_num(0).min() == -1e9
    assert torch.equal(distance[0, :4], -logw[0, :4])
    one = product([rbf(5.0)])(y[:, :1], y[:, :1])[1]
    torch.testing.assert_close(one[:3, :3], rbf(5.0)(y[:3, 0], y[:3, 0])[1])


def test_losses_and_kernels_agree_on_the_log_weight_of_nothing():
    assert kernels.NO_WEIGHT == lse.NO_WEIGHT == -1e9


def test_kernels_are_frozen_comparable_and_picklable():
    with pytest.raises(AttributeError):
        rbf(5.0).sigma = 3.0
    assert rbf(5.0) == rbf(5.0) != rbf(4.0)
    for kernel in [*ALL, product([rbf(5.0), delta()])]:
        assert pickle.loads(pickle.dumps(kernel)) == kernel


@pytest.mark.parametrize("kernel", [*ALL, product([rbf(5.0), delta()])], ids=lambda k: k.name)
def test_name_and_arguments_rebuild_a_kernel(kernel):
    assert build_kernel(kernel.name, arguments=kernel.arguments) == kernel


def test_scott_and_silverman_return_a_standard_deviation_in_label_units():
    labels = np.array([10.0, 20.0, 35.0, NAN, 60.0, 61.0])
    known = labels[~np.isnan(labels)]
    assert bandwidth("scott", labels) == pytest.approx(known.std(ddof=1) * 5 ** (-1 / 5))
    assert bandwidth("silverman", labels) == pytest.approx(known.std(ddof=1) * (5 * 3 / 4) ** (-1 / 5))
    assert bandwidth("scott", labels * 10) == pytest.approx(10 * bandwidth("scott", labels))
    assert bandwidth("scott", labels, columns=2) == pytest.approx(known.std(ddof=1) * 5 ** (-1 / 6))
    assert bandwidth(4, labels) == 4.0


def test_a_bandwidth_is_a_length_for_every_kernel_that_has_one():
    labels = [10.0, 20.0, 30.0]
    assert build_kernel("rbf", "scott", labels=labels) == Rbf(bandwidth("scott", labels))
    assert build_kernel("rbf", arguments={"sigma": "silverman"}, labels=labels) == Rbf(bandwidth("silverman", labels))
    assert build_kernel("cauchy", 2.0) == Cauchy(0.25)
    assert build_kernel("box", 3) == box(3.0)
    built = build_kernel("product", arguments={"factors": [{"name": "rbf", "sigma": 5.0}, {"name": "delta"}]})
    assert built == product([rbf(5.0), delta()])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build_kernel("rfb", 5.0), "did you mean 'rbf'"),
        (lambda: build_kernel("rbf", arguments={"sigm": 5.0}), "did you mean 'sigma'"),
        (lambda: build_kernel("rbf"), "needs sigma"),
        (lambda: build_kernel("rbf", 5.0, {"sigma": 4.0}), "same time"),
        (lambda: build_kernel("delta", 5.0), "no bandwidth"),
        (lambda: build_kernel("product"), "no factor"),
        (lambda: rbf(0.0), "sigma is 0.0"),
        (lambda: rbf(NAN), "sigma is nan"),
        (lambda: rbf("5"), "sigma is '5'"),
        (lambda: cauchy(-1.0), "gamma is -1.0"),
        (lambda: box(-1.0), "theta is -1.0"),
        (lambda: bandwidth("scot", [1.0, 2.0]), "'scot'"),
        (lambda: bandwidth("scott", [1.0, NAN]), "two different known labels"),
        (lambda: bandwidth("scott", [3.0, 3.0]), "two different known labels"),
        (lambda: rbf(5.0)(torch.zeros(2, 2), torch.zeros(2, 2)), "one label per row"),
        (lambda: product([delta()])(torch.zeros(2, 2), torch.zeros(2, 2)), "1 factors"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(call, words):
    with pytest.raises(UserError, match=words):
        call()


def facts(**labels: list[float]) -> Facts:
    arrays = {name: np.array(values) for name, values in labels.items()}
    return Facts(3, np.arange(3), 2, (1, 4, 4, 4), arrays, frozenset({"scanner"}))


def test_a_column_of_names_is_compared_as_names_and_never_by_distance():
    known = facts(scanner=[0.0, 1.0, 2.0], iq=[90.0, 100.0, 110.0])
    assert kernel_of("scanner", {}, known) == Categorical()
    assert kernel_of("scanner", {"kernel": "delta"}, known) == delta()
    assert kernel_of("iq", {"bandwidth": 5}, known) == rbf(5.0)
    assert kernel_of("iq", {"kernel": "categorical"}, known) == Categorical()
    for options in ({"kernel": "rbf", "bandwidth": 1}, {"kernel": "cauchy", "gamma": 1}, {"kernel": "box", "theta": 1}):
        with pytest.raises(RecipeError, match=r"scanner\.kernel is '\w+', .*use .*scanner\.kernel=categorical"):
            kernel_of("scanner", options, known)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "rbf"}, "needs sigma"),
        ({"kernel": "rbf", "bandwidth": 5, "sigma": 5}, "at the same time"),
        ({"kernel": "delta", "bandwidth": 5}, "has no bandwidth"),
        ({"kernel": "rbf", "sigma": "scot"}, "did you mean 'scott'"),
        ({"kernel": "box", "theta": -1}, r"m\.age\.theta is -1"),
        ({"kernel": "product"}, "which is unknown"),
    ],
)
def test_kernels_of_a_recipe_are_checked_before_there_are_labels(options, words):
    with pytest.raises(RecipeError, match=words):
        check_kernels("m", {"age": options})
    check_kernels("m", {"age": {"kernel": "rbf", "sigma": "scott"}})
    check_kernels("m", {"scanner": {}})  # rbf or categorical: the column decides
