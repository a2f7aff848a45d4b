from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import RecipeError
from medssl.heads import TokenDecoder, random_keep


def decoder(**changes):
    torch.manual_seed(0)
    return TokenDecoder(**{"dim": 10, "out": 7, "grid": (2, 3, 2), "width": 12, "depth": 2, "heads": 2, **changes})


@pytest.mark.parametrize(("tokens", "ratio"), [(12, 0.75), (640, 0.75), (10, 0.9), (10, 0.1), (150, 0.6)])
def test_kept_count_is_exact_and_the_mask_is_the_rest(tokens, ratio):
    keep, mask = random_keep(torch.rand(3, tokens), ratio)
    assert keep.shape == (3, math.floor(round(tokens * (1 - ratio), 6)))
    assert mask.dtype == torch.bool
    for row in range(3):
        assert sorted(keep[row].tolist() + mask[row].nonzero().flatten().tolist()) == list(range(tokens))


def test_the_smallest_noise_stays_and_rows_are_independent():
    noise = torch.rand(4, 20)
    keep, _ = random_keep(noise, 0.5)
    for row in range(4):
        assert set(keep[row].tolist()) == set(noise[row].argsort()[:10].tolist())
    assert torch.equal(random_keep(noise[1:2], 0.5)[0][0], keep[1])


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.99, -0.5])
def test_a_ratio_that_masks_nothing_or_everything_is_refused(ratio):
    with pytest.raises(RecipeError, match="at least one must stay and one must go"):
        random_keep(torch.rand(2, 12), ratio)


def test_decoder_predicts_every_token_and_uses_every_parameter():
    head = decoder()
    keep, _ = random_keep(torch.rand(3, 12), 0.75)
    out = head(torch.randn(3, 3, 10), keep)
    assert out.shape == (3, 12, 7)
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_tokens_land_at_their_own_place():
    head = decoder().eval()
    tokens, keep = torch.randn(2, 4, 10), torch.tensor([[0, 5, 7, 11], [3, 2, 1, 8]])
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(head(tokens[:, order], keep[:, order]), head(tokens, keep))
        moved = head(tokens, keep[:, order])
        assert not torch.allclose(moved, head(tokens, keep))


def test_mask_tokens_differ_only_by_their_position():
    head = decoder().eval()
    head.position_TE.zero_()
    with torch.no_grad():
        out = head(torch.randn(1, 2, 10), torch.tensor([[4, 9]]))
    hidden = [t for t in range(12) if t not in (4, 9)]
    torch.testing.assert_close(out[:, hidden], out[:, :1].expand(-1, 10, -1))
    assert not torch.allclose(out[:, 4], out[:, 0])


def test_bf16_is_finite():
    head = decoder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(torch.randn(2, 3, 10), torch.tensor([[0, 1, 2], [3, 4, 5]]))
    assert torch.isfinite(out).all()


def test_bad_arguments_are_explained():
    with pytest.raises(RecipeError, match="divisible by 6"):
        decoder(width=16)
    with pytest.raises(RecipeError, match="indices of shape"):
        decoder()(torch.randn(2, 3, 10), torch.zeros(2, 4, dtype=torch.int64))
