from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.errors import RecipeError
from medssl.types import Batch
from tests.methods.bench import BATCH, START, Bench, columns

ROWS = list(range(BATCH))


def aged(batch: Batch, age_B: torch.Tensor) -> Batch:
    return Batch(batch.views, batch.index, {**batch.meta, "age": age_B}, batch.target)


@pytest.mark.parametrize("known", [BATCH, 5])
def test_the_gradient_of_a_guess_is_one_over_the_known_labels(known: int, monkeypatch: pytest.MonkeyPatch):
    bench = Bench("l1_age")
    age = torch.where(torch.arange(BATCH) < known, torch.linspace(20, 60, BATCH), float("nan"))
    guess = torch.full((BATCH,), 41.0, requires_grad=True)
    monkeypatch.setattr(bench.method, "predict", lambda pooled: guess)
    loss = bench.method.step(aged(bench.batch(ROWS), age), START).losses["loss"]
    loss.backward()
    error = guess.detach()[:known] - age[:known]
    assert float(loss.detach()) == pytest.approx(float(error.abs().mean()), rel=1e-6)
    assert torch.allclose(guess.grad[:known], error.sign() / known)
    assert (guess.grad[known:] == 0).all()


def test_without_any_label_the_loss_is_zero_and_can_be_differentiated():
    bench = Bench("l1_age")
    batch = aged(bench.batch(ROWS), torch.full((BATCH,), float("nan")))
    out = bench.method.step(batch, START)
    out.losses["loss"].backward()
    assert float(out.losses["loss"].detach()) == 0.0
    assert float(out.log["labelled"]) == 0.0
    assert all(p.grad is None or (p.grad == 0).all() for p in bench.method.parameters())


def test_an_empty_head_guesses_the_median_and_costs_the_chance_level():
    bench = Bench("l1_age")
    torch.nn.init.zeros_(bench.method.head.weight)
    torch.nn.init.zeros_(bench.method.head.bias)
    ages = columns()["age"].numpy().astype(float)
    guess = bench.method.predict(torch.randn(4, bench.encoder.dim))
    assert torch.allclose(guess, torch.tensor(float(np.median(ages))))
    assert bench.method.chance == pytest.approx(float(np.abs(ages - np.median(ages)).mean()), rel=1e-6)


def test_the_unit_of_the_label_scales_guesses_and_loss_alike():
    years = Bench("l1_age")
    months = Bench("l1_age", meta={**columns(), "age": columns()["age"] * 12})
    pooled = torch.randn(4, years.encoder.dim)
    assert torch.allclose(months.method.predict(pooled), 12 * years.method.predict(pooled), rtol=1e-4)
    losses = [float(b.method.step(b.batch(ROWS), START).losses["loss"].detach()) for b in (years, months)]
    assert losses[1] == pytest.approx(12 * losses[0], rel=1e-4)


def test_another_numeric_column_can_be_the_label():
    bench = Bench("l1_age", meta={**columns(), "score": torch.linspace(0, 1, 24)}, label="score")
    assert bench.method.reads == ("score",)
    assert float(bench.method.middle) == pytest.approx(0.5)


def test_a_label_that_the_manifest_lacks_is_refused():
    with pytest.raises(RecipeError, match=r"method\.label is 'iq'"):
        Bench("l1_age", label="iq")
