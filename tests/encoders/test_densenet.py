from __future__ import annotations

import torch

from medssl.encoders import build_encoder

from .checks import scans, tiny


def test_published_variant_has_its_parameter_count_and_width():
    encoder = build_encoder("densenet121")
    assert encoder.dim == 1024
    assert sum(p.numel() for p in encoder.parameters()) == 11_240_576


def test_final_norm_adds_its_scale_and_shift_only():
    def size(final):
        return sum(p.numel() for p in build_encoder("densenet121", final=final).parameters())

    assert size("relu") == size("none") == 11_240_576
    assert size("norm") == 11_240_576 + 2 * 1024


def test_finals_differ_as_documented():
    none, relu = (tiny("densenet121", final=final).eval() for final in ("none", "relu"))
    relu.load_state_dict(none.state_dict())
    x = scans(none)
    with torch.no_grad():
        assert (none(x).map < 0).any()
        assert torch.equal(relu(x).map, none(x).map.relu())


def test_pooled_is_the_mean_of_the_map():
    encoder = tiny("densenet121").eval()
    out = encoder(scans(encoder))
    torch.testing.assert_close(out.pooled, out.map.flatten(2).mean(2))
