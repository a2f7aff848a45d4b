from __future__ import annotations

import pytest
import torch

from medssl.encoders import build_encoder
from medssl.errors import RecipeError

from .checks import scans, tiny


def test_unpatchify_inverts_patchify():
    encoder = tiny("vit", in_channels=2, patch=[8, 4, 2])
    x = scans(encoder)
    patches = encoder.patchify(x)
    assert encoder.grid == (2, 6, 8)
    assert patches.shape == (4, encoder.n_tokens, 8 * 4 * 2 * 2)
    assert torch.equal(encoder.unpatchify(patches), x)


def test_a_patch_holds_its_voxels_in_order():
    encoder = tiny("vit")
    x = scans(encoder)
    token = (1 * 3 + 2) * 2 + 1
    assert torch.equal(encoder.patchify(x)[:, token], x[:, 0, 8:16, 16:24, 8:16].flatten(1))


def test_shape_that_the_patch_does_not_divide_names_the_padded_one():
    with pytest.raises(RecipeError, match=r"\(121, 145, 121\).*pad them to \(128, 160, 128\)"):
        build_encoder("vit", shape=(121, 145, 121))
    with pytest.raises(RecipeError, match=r"pad them to \(16, 24, 24\)"):
        tiny("vit")(torch.zeros(1, 1, 16, 24, 20))


def test_width_and_heads_are_checked_with_a_remedy():
    with pytest.raises(RecipeError, match=r"encoder.width is 32 .*divisible by 6.*use a multiple of 6"):
        tiny("vit", width=32)
    with pytest.raises(RecipeError, match=r"encoder.heads is 5.*use a multiple of 30"):
        tiny("vit", heads=5)
    with pytest.raises(RecipeError, match="vit needs shape"):
        build_encoder("vit")
    with pytest.raises(RecipeError, match=r"encoder.dropout is 1\.5"):
        tiny("vit", dropout=1.5)
    with pytest.raises(RecipeError, match=r"encoder.cls is 'yes', but it must be true or false"):
        tiny("vit", cls="yes")
    with pytest.raises(RecipeError, match=r"encoder.mlp_ratio is 0"):
        tiny("vit", mlp_ratio=0)


def test_dropped_tokens_cannot_influence_the_result():
    encoder = tiny("vit").eval()
    x = scans(encoder)
    keep = torch.tensor([[0, 3, 7], [11, 1, 2], [4, 5, 6], [9, 0, 8]])
    patches = encoder.patchify(x)
    hidden = torch.ones(patches.shape[:2], dtype=torch.bool).scatter(1, keep, False)
    other = encoder.unpatchify(torch.where(hidden.unsqueeze(-1), torch.randn_like(patches), patches))
    with torch.no_grad():
        out = encoder(x, keep)
        assert out.tokens.shape == (4, 3, encoder.dim)
        assert torch.equal(out.tokens, encoder(other, keep).tokens)
        assert not torch.allclose(encoder(other).pooled, encoder(x).pooled)


def test_keeping_all_tokens_changes_nothing_but_their_order():
    encoder = tiny("vit").eval()
    x = scans(encoder)
    order = torch.stack(
        [torch.randperm(encoder.n_tokens, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    )
    with torch.no_grad():
        full, kept = encoder(x), encoder(x, order)
    expected = full.tokens.gather(1, order.unsqueeze(-1).expand_as(full.tokens))
    torch.testing.assert_close(kept.tokens, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept.pooled, full.pooled, rtol=1e-4, atol=1e-5)


def test_without_positions_tokens_are_a_set():
    encoder = tiny("vit").eval()
    encoder.position_TE.zero_()
    x = scans(encoder)
    patches = encoder.patchify(x)
    order = torch.randperm(encoder.n_tokens, generator=torch.Generator().manual_seed(0))
    shuffled = encoder.unpatchify(patches[:, order])
    with torch.no_grad():
        torch.testing.assert_close(encoder(shuffled).tokens, encoder(x).tokens[:, order], rtol=1e-4, atol=1e-5)


def test_masked_patches_are_replaced_but_keep_their_place():
    encoder = tiny("vit", mask_token=True).eval()
    x = scans(encoder)
    mask = torch.zeros(4, encoder.n_tokens, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(encoder(x, mask_NT=mask).tokens, encoder(x).tokens)
        mask[:, [2, 5]] = True
        patches = encoder.patchify(x)
        patches[:, [2, 5]] = 7.0
        hidden = encoder(x, mask_NT=mask).tokens
        assert torch.equal(encoder(encoder.unpatchify(patches), mask_NT=mask).tokens, hidden)
        assert not torch.allclose(hidden[:, 2], hidden[:, 5])
    encoder(x, mask_NT=mask).pooled.square().sum().backward()
    assert encoder.mask_token.grad.abs().sum() > 0
    with pytest.raises(RecipeError, match="mask_token: true"):
        tiny("vit")(x, mask_NT=mask)


def test_class_token_is_the_pooled_vector_and_no_token():
    encoder = tiny("vit-cls").eval()
    out = encoder(scans(encoder), torch.tensor([[1, 4]]).expand(4, -1))
    assert out.tokens.shape == (4, 2, encoder.dim)
    assert not torch.allclose(out.pooled, out.tokens.mean(1))


def test_other_input_sizes_are_embedded_too():
    encoder = tiny("vit").eval()
    assert encoder(torch.zeros(2, 1, 8, 16, 8)).tokens.shape == (2, 2, encoder.dim)
    assert encoder(torch.zeros(2, 1, 24, 24, 32)).tokens.shape == (2, 36, encoder.dim)


def test_dropout_acts_in_training_only():
    encoder = tiny("vit", dropout=0.5)
    x = scans(encoder)
    assert not torch.equal(encoder.train()(x).pooled, encoder(x).pooled)
    assert torch.equal(encoder.eval()(x).pooled, encoder(x).pooled)


def test_attention_rows_sum_to_one_and_explain_the_last_block():
    encoder = tiny("vit-cls").eval()
    weights = encoder.attention(scans(encoder))
    assert weights.shape == (4, 2, encoder.n_tokens + 1, encoder.n_tokens + 1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
