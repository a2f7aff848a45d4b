from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandBiasField

from medssl.transforms import BiasField
from medssl.transforms.bias import exponents, log_field


def monai_field(x, degree, coefficients):
    transform = RandBiasField(degree=degree, prob=1.0)
    transform._coeff, transform._do_transform = coefficients, True
    return transform(x, randomize=False).as_tensor()


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_plain_multiplication_equals_monai(degree, brain_of):
    shape = (2, 11, 14, 9)
    x = brain_of(shape)
    bias = BiasField(degree=degree, foreground=False, coefficients=(-0.3, 0.3))
    params = bias.sample(np.random.default_rng(degree), shape)
    assert len(params["coefficients"]) == (degree + 1) * (degree + 2) * (degree + 3) // 6
    expected = monai_field(x, degree, params["coefficients"])
    assert torch.allclose(bias.apply(x, params), expected, atol=1e-5)


def test_a_scan_without_negative_values_is_multiplied_as_monai_does(brain):
    x = torch.where(brain != 0, brain + 5.0, brain)
    params = BiasField().sample(np.random.default_rng(0), tuple(x.shape))
    assert torch.allclose(BiasField().apply(x, params), monai_field(x, 3, params["coefficients"]), atol=1e-4)


def test_a_z_scored_scan_is_shaded_from_its_smallest_value_and_the_background_stays_empty(brain):
    params = BiasField().sample(np.random.default_rng(0), tuple(brain.shape))
    y, low = BiasField().apply(brain, params), brain.min()
    gain = log_field(tuple(brain.shape[1:]), 3, params["coefficients"]).exp()[None]
    inside = brain != 0
    assert torch.allclose(y[inside], ((brain - low) * gain + low)[inside], atol=1e-5)
    assert torch.count_nonzero(y[~inside]) == 0


def test_zero_coefficients_change_nothing(brain):
    bias = BiasField(coefficients=0.0)
    y = bias.apply(brain, bias.sample(np.random.default_rng(0), tuple(brain.shape)))
    assert torch.allclose(y, brain, atol=1e-6)


def test_default_shading_is_about_ten_per_cent_and_smooth():
    bias, rng = BiasField(), np.random.default_rng(0)
    fields = [log_field((16, 18, 16), 3, bias.sample(rng, (1, 16, 18, 16))["coefficients"]) for _ in range(200)]
    sd = float(torch.stack(fields).std())
    assert 0.08 < sd < 0.14
    assert float(torch.stack(fields).diff(dim=1).abs().mean()) < 0.3 * sd


def test_terms_are_all_degrees_up_to_the_total():
    assert len(exponents(3)) == 20
    assert exponents(3)[0] == (0, 0, 0)
    assert max(sum(t) for t in exponents(3)) == 3
