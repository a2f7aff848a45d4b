from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.errors import RecipeError
from medssl.heads.tokens import random_keep
from medssl.types import Batch, Features
from tests.methods.bench import BATCH, START, Bench

ROWS = list(range(BATCH))


class Painter(nn.Module):
    """A decoder that gives the same patches whatever it sees."""

    def __init__(self, patches_NTP: torch.Tensor) -> None:
        super().__init__()
        self.patches_NTP = nn.Parameter(patches_NTP)

    def forward(self, tokens: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return self.patches_NTP


def hidden(bench: Bench, batch: Batch) -> torch.Tensor:
    return random_keep(batch.target["token_noise"], bench.method.ratio)[1]


def test_the_decoder_that_knows_the_scan_loses_nothing():
    bench = Bench("mae")
    batch = bench.batch(ROWS)
    bench.method.decoder = Painter(bench.encoder.patchify(batch.views[0]))
    assert float(bench.method.step(batch, START).losses["loss"].detach()) == 0.0


@pytest.mark.parametrize("norm_pix", [False, True])
def test_the_loss_is_the_mean_square_over_hidden_patches(norm_pix):
    bench = Bench("mae", norm_pix=norm_pix)
    batch = bench.batch(ROWS)
    target = bench.encoder.patchify(batch.views[0]).double()
    if norm_pix:
        target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
    bench.method.decoder = Painter(torch.zeros_like(target, dtype=torch.float32))
    mask = hidden(bench, batch)
    expected = sum(
        float((target[n, t] ** 2).mean()) for n in range(BATCH) for t in range(mask.shape[1]) if mask[n, t]
    ) / int(mask.sum())
    assert float(bench.method.step(batch, START).losses["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_visible_patches_of_the_target_do_not_enter(monkeypatch: pytest.MonkeyPatch):
    bench = Bench("mae")
    batch = bench.batch(ROWS)
    bench.method.decoder = Painter(torch.zeros_like(bench.encoder.patchify(batch.views[0])))
    before = bench.method.step(batch, START).losses["loss"]
    patches, mask = bench.encoder.patchify(batch.views[0]), hidden(bench, batch)
    changed = torch.where(mask[..., None], patches, 1e4)
    monkeypatch.setattr(bench.encoder, "patchify", lambda x: changed)
    assert torch.equal(bench.method.step(batch, START).losses["loss"], before)
    monkeypatch.setattr(bench.encoder, "patchify", lambda x: torch.where(mask[..., None], 1e4, patches))
    assert float(bench.method.step(batch, START).losses["loss"].detach()) > 1e6


def test_the_encoder_never_sees_what_is_hidden():
    bench = Bench("mae")
    batch = bench.batch(ROWS)
    patches, mask = bench.encoder.patchify(batch.views[0]), hidden(bench, batch)
    other = bench.encoder.unpatchify(torch.where(mask[..., None], 7.0, patches))
    changed = Batch((other,), batch.index, batch.meta, batch.target)
    seen, seen_too = (bench.method.step(b, START) for b in (batch, changed))
    assert torch.equal(seen.carry["z"], seen_too.carry["z"])
    assert not torch.equal(seen.losses["loss"], seen_too.losses["loss"])


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75])
def test_the_number_of_hidden_patches_is_exact_in_every_scan(ratio):
    bench = Bench("mae", ratio=ratio)
    batch, seen = bench.batch(ROWS), []
    forward = bench.encoder.forward

    def spy(x: torch.Tensor, **kept: torch.Tensor) -> Features:
        seen.append(kept["keep_NL"])
        return forward(x, **kept)

    bench.encoder.forward = spy
    bench.method.step(batch, START)
    tokens = bench.encoder.n_tokens
    assert seen[0].shape == (BATCH, int(tokens * (1 - ratio)))
    assert all(len(set(row.tolist())) == len(row) for row in seen[0])
    assert len({tuple(row.tolist()) for row in seen[0]}) > 1, "every scan has its own mask"


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.999, -0.5])
def test_hiding_nothing_or_everything_is_refused(ratio):
    with pytest.raises(RecipeError, match=r"method.ratio"):
        Bench("mae", ratio=ratio)


def test_the_loss_of_painting_the_mean_of_a_patch_is_logged_beside():
    bench = Bench("mae")
    batch = bench.batch(ROWS)
    patches = bench.encoder.patchify(batch.views[0])
    bench.method.decoder = Painter(patches.mean(2, keepdim=True).expand_as(patches).clone())
    out = bench.method.step(batch, START)
    assert float(out.losses["loss"].detach()) == pytest.approx(float(out.log["patch_mean_mse"]), rel=1e-6)
