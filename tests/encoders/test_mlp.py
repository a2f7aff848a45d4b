from __future__ import annotations

import pytest
import torch

from medssl.encoders import build_encoder
from medssl.errors import RecipeError


def test_tables_and_volumes_of_the_same_values_give_the_same_features():
    encoder = build_encoder("mlp", shape=(3, 4, 5), hidden=(8, 6)).eval()
    x = torch.randn(5, 1, 3, 4, 5)
    assert torch.equal(encoder(x).pooled, encoder(x.flatten(1)).pooled)


def test_a_plain_number_of_values_is_a_shape():
    encoder = build_encoder("mlp", shape=284, hidden=[16])
    assert encoder(torch.randn(3, 284)).pooled.shape == (3, 16)
    assert encoder.spec["shape"] == [284]


def test_shape_is_needed_and_checked():
    with pytest.raises(RecipeError, match="mlp needs shape"):
        build_encoder("mlp")
    with pytest.raises(RecipeError, match=r"expects 284 values per scan, but got 280"):
        build_encoder("mlp", shape=284)(torch.zeros(2, 280))
    with pytest.raises(RecipeError, match=r"encoder.norm is 'instance'"):
        build_encoder("mlp", shape=284, norm="instance")
