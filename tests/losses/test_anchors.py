from __future__ import annotations

from functools import partial

import pytest
import torch

from medssl.errors import UserError
from medssl.losses.anchors import counted_anchors
from medssl.losses.kernel import exponential, threshold, y_aware

LOSSES = {
    ("y_aware", "slide"): y_aware,
    ("threshold", "slide"): threshold,
    ("exponential", "slide"): exponential,
    ("exponential", "include_k"): partial(exponential, variant="include_k"),
    ("exponential", "isbi_code"): partial(exponential, variant="isbi_code"),
}


def hard_case(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Few distinct weights, many pairs that are not valid, rows without any."""
    rng = torch.Generator().manual_seed(seed)
    sim = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    logw = torch.tensor([0.0, -1.0, -1e9], dtype=torch.float64)[torch.randint(0, 3, (12, 5), generator=rng)]
    valid = torch.rand(12, 5, generator=rng) < torch.linspace(0, 0.9, 12)[:, None]
    return sim, logw, valid


@pytest.mark.parametrize(("name", "variant"), LOSSES)
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_the_mean_over_the_counted_anchors(name: str, variant: str, seed: int):
    loss = LOSSES[name, variant]
    sim, logw, valid = hard_case(seed)
    counted = counted_anchors(name, logw, valid, variant=variant)
    assert 0 < counted.sum() < len(sim), "some count and some do not"
    alone = torch.stack([loss(sim[i : i + 1], logw[i : i + 1], valid[i : i + 1]) for i in range(len(sim))])
    assert loss(sim, logw, valid).item() == pytest.approx(alone.sum().item() / int(counted.sum()), rel=1e-12)
    assert (alone[~counted] == 0).all()


def test_a_loss_that_needs_a_square_matrix_is_refused():
    _, logw, valid = hard_case(0)
    with pytest.raises(UserError, match="use variant slide"):
        counted_anchors("threshold", logw, valid, variant="isbi_code")
