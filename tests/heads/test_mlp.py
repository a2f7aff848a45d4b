from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.errors import RecipeError
from medssl.heads import MLP
from medssl.heads.mlp import behind


def layers(head):
    return [type(m).__name__ for m in head.net]


def test_layers_stand_in_the_documented_order():
    assert layers(MLP((8, 6, 4))) == ["Linear", "JointBatchNorm1d", "ReLU", "Linear"]
    assert layers(MLP((8, 6, 4), norm="none", act="gelu")) == ["Linear", "GELU", "Linear"]
    assert layers(MLP((8, 6, 4), norm="layer", last_norm=True))[-2:] == ["Linear", "LayerNorm"]
    assert layers(MLP((8, 4))) == ["Linear"]


def test_a_bias_stands_only_where_no_norm_would_cancel_it():
    head = MLP((8, 6, 4))
    assert head.net[0].bias is None
    assert head.net[3].bias is not None
    assert all(m.bias is not None for m in MLP((8, 6, 4), bias=True).net if isinstance(m, nn.Linear))
    assert all(m.bias is None for m in MLP((8, 6, 4), norm="none", bias=False).net if isinstance(m, nn.Linear))


def test_last_norm_has_no_scale_unless_asked():
    assert MLP((8, 6, 4), last_norm=True).net[-1].weight is None
    assert MLP((8, 6, 4), last_norm=True, last_affine=True).net[-1].weight.shape == (4,)


def test_published_y_aware_projector_size():
    head = MLP((1024, 512, 128), norm="none")
    assert sum(p.numel() for p in head.parameters()) == 1024 * 512 + 512 + 512 * 128 + 128


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "none"])
def test_every_parameter_gets_gradient_and_bf16_is_finite(norm):
    torch.manual_seed(0)
    head = MLP((8, 16, 4), norm=norm)
    x = torch.randn(6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(x)
    (out.float() * torch.randn(6, 4)).sum().backward()
    assert torch.isfinite(out).all()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_leading_dimensions_are_rows():
    head = MLP((8, 6, 4))
    x = torch.randn(3, 5, 8)
    assert torch.equal(head.eval()(x), head(x.flatten(0, 1)).reshape(3, 5, 4))


def test_spec_builds_the_same_again():
    head = MLP((8, 6, 4), norm="layer", act="tanh", last_norm=True)
    assert MLP(**head.spec).spec == head.spec


def test_bad_arguments_are_explained():
    with pytest.raises(RecipeError, match="norm is 'bn', but it must be 'batch'"):
        MLP((8, 4), norm="bn")
    with pytest.raises(RecipeError, match=r"dims is .* a list of 2 to 17 values"):
        MLP((8,))
    with pytest.raises(RecipeError, match=r"dims\.1 is 0"):
        MLP((8, 0))
    with pytest.raises(RecipeError, match="act is 'swish'"):
        MLP((8, 4, 4), act="swish")


def test_under_autocast_it_stays_in_the_precision_of_its_weights() -> None:
    torch.manual_seed(0)
    head = MLP((6, 5, 4), norm="none")
    x = 1.0 + 1e-4 * torch.randn(3, 6)  # bfloat16 tells none of these rows apart
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = head(x)
    assert z.dtype == torch.float32
    assert torch.equal(z, head(x))
    assert len(z.unique(dim=0)) == 3


def test_the_width_of_the_encoder_may_be_named():
    assert behind(64, ("width", 128)) == (64, 64, 128)
    assert behind(64, (512, "width", 8)) == (64, 512, 64, 8)
