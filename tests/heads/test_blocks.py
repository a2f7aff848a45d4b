from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import RecipeError
from medssl.heads.blocks import Attention, TransformerBlock, groups_of, norm_3d, sincos_positions


def test_positions_match_the_formula_written_as_loops():
    grid, dim = (2, 3, 4), 12
    table = sincos_positions(grid, dim)
    row = 0
    for d in range(2):
        for h in range(3):
            for w in range(4):
                expected = []
                for place in (d, h, w):
                    phases = [place / 10000 ** (k / 2) for k in range(2)]
                    expected += [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
                torch.testing.assert_close(table[row], torch.tensor(expected), rtol=1e-6, atol=1e-6)
                row += 1


def test_positions_are_all_different():
    table = sincos_positions((8, 10, 8), 384)
    gaps = torch.cdist(table, table, compute_mode="donot_use_mm_for_euclid_dist") + torch.eye(640)
    assert gaps.min() > 0.5


def test_another_grid_is_stretched_over_the_same_extent():
    own = sincos_positions((4, 4, 4), 12)
    coarse = sincos_positions((1, 2, 4), 12, reference=(4, 4, 4))
    assert torch.equal(sincos_positions((4, 4, 4), 12, reference=(4, 4, 4)), own)
    first = torch.tensor([math.sin(1.5), math.sin(0.015), math.cos(1.5), math.cos(0.015)])
    torch.testing.assert_close(coarse[0, :4], first, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        coarse[0, 4:8], torch.tensor([math.sin(0.5), math.sin(0.005), math.cos(0.5), math.cos(0.005)])
    )
    assert torch.equal(coarse[:4, 8:], own[:4, 8:])


def test_width_must_suit_three_axes():
    with pytest.raises(RecipeError, match="divisible by 6, but it is 64; use 60 or 66"):
        sincos_positions((2, 2, 2), 64)


def test_attention_equals_its_weights_times_the_values():
    torch.manual_seed(0)
    attention = Attention(12, 3).eval()
    x = torch.randn(2, 5, 12)
    q, k, v = (t.unflatten(-1, (3, 4)).transpose(1, 2) for t in attention.qkv(x).chunk(3, -1))
    weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
    torch.testing.assert_close(attention.weights(x), weights)
    torch.testing.assert_close(attention(x), attention.out((weights @ v).transpose(1, 2).flatten(2)))


def test_block_is_equivariant_to_the_order_of_tokens_and_uses_every_parameter():
    torch.manual_seed(0)
    block = TransformerBlock(12, 2, mlp_ratio=2.0)
    x, order = torch.randn(2, 6, 12), torch.tensor([5, 0, 3, 1, 4, 2])
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], rtol=1e-4, atol=1e-5)
    (block(x) * torch.randn(2, 6, 12)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in block.parameters())


def test_groups_divide_the_channels_and_hold_at_least_four():
    assert [groups_of(c) for c in (4, 8, 16, 32, 64, 512, 12, 30)] == [1, 2, 4, 8, 8, 8, 2, 2]
    assert norm_3d("group", 7).num_groups == 1
    with pytest.raises(RecipeError, match="norm is 'layr'"):
        norm_3d("layr", 8)
