from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medssl.errors import RecipeError
from medssl.kernels import rbf
from medssl.methods.base import stack_views
from medssl.recipe.catalog import CATALOG, REGULARIZERS, add_regularizers
from medssl.recipe.model import load_recipe, parse_recipe
from medssl.types import Batch, Facts
from tests.methods.bench import BATCH, SCANS, SHAPE, START, Bench, columns
from tests.oracles import fair_loops as loops

ROWS = list(range(BATCH))
JOINT = ("simclr", "moco", "y_aware", "threshold", "exponential")


def bench_with(name: str, *terms: dict[str, Any], method: dict[str, Any] | None = None) -> Bench:
    bench = Bench(name, **(method or {}))
    labels = {k: np.where(v.numpy() == -1, np.nan, v.numpy().astype(float)) for k, v in bench.meta.items()}
    facts = Facts(SCANS, np.arange(SCANS), BATCH, SHAPE, labels)
    add_regularizers(
        bench.method, name, facts, [(t["name"], {k: v for k, v in t.items() if k != "name"}) for t in terms]
    )
    return bench


def embedded(bench: Bench, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw and unit rows of both views, float64."""
    raw = bench.method.projector(stack_views(bench.encoder, batch.views).pooled).detach().double()
    return raw, F.normalize(raw, dim=1)


def fair_by_hand(z: torch.Tensor, batch: Batch, w: torch.Tensor | None, form: str = "kl") -> float:
    site, subject = batch.meta["site"].repeat(2), batch.meta["subject"].repeat(2)
    age = batch.meta["age"].repeat(2)
    n = len(z)
    valid, same = torch.zeros(n, n).bool(), torch.zeros(n, n).bool()
    for i in range(n):
        for j in range(i + 1, n):
            labelled = w is None or (age[i] == age[i] and age[j] == age[j])
            valid[i, j] = subject[i] != subject[j] and site[i] >= 0 and site[j] >= 0 and labelled
            same[i, j] = site[i] == site[j]
    return float(loops.fair_kl(z @ z.T, torch.zeros(n, n).double() if w is None else w, same, valid, form))


@pytest.mark.parametrize("name", JOINT)
def test_the_loss_gains_weight_times_the_term_and_the_log_names_it(name: str) -> None:
    plain = Bench(name)
    batch = plain.batch(ROWS)
    before = plain.start().step(batch, START)
    terms = [{"name": n, "weight": w} for n, w in zip(REGULARIZERS, (2.0, 0.5, 0.3, 4.0, 0.1), strict=True)]
    bench = bench_with(name, *terms)
    after = bench.start().step(batch, START)
    weights = {"fair_kl_site": 2.0, "alignment": 0.5, "uniformity": 0.3, "variance": 4.0, "covariance": 0.1}
    assert set(after.log) == set(before.log) | set(weights)
    added = sum(w * float(after.log[k]) for k, w in weights.items())
    assert float(after.losses["loss"].detach()) == pytest.approx(
        float(before.losses["loss"].detach()) + added, rel=1e-5
    )
    assert "site" in bench.method.reads
    for value in after.log.values():
        assert not value.requires_grad
        assert torch.isfinite(value)


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("term", sorted(REGULARIZERS))
def test_every_term_moves_encoder_and_projector_and_no_buffer(name: str, term: str) -> None:
    bench = bench_with(name, {"name": term, "weight": 1.0})
    method = bench.start()
    batch = bench.batch(ROWS)
    state = {k: v.clone() for k, v in method.state_dict().items()}
    loss = method.step(batch, START).losses["loss"]
    method.regularizers = ()
    (loss - method.step(batch, START).losses["loss"]).backward()
    got = [float(p.grad.abs().sum()) for p in (*method.encoder.parameters(), *method.projector.parameters())]
    assert all(math.isfinite(g) for g in got)
    assert max(got) > 1e-6
    for key, value in method.state_dict().items():
        assert torch.equal(value, state[key]) or (value.isnan() & state[key].isnan()).any()


@pytest.mark.parametrize("form", ["kl", "moments"])
def test_fair_kl_of_simclr_compares_different_people_within_and_between_sites(form: str) -> None:
    bench = bench_with("simclr", {"name": "fair_kl", "form": form})
    batch = bench.batch(ROWS)
    found = bench.start().step(batch, START).log["fair_kl_site"]
    assert float(found) == pytest.approx(fair_by_hand(embedded(bench, batch)[1], batch, None, form), rel=1e-3)


def test_fair_kl_of_a_kernel_method_weighs_pairs_by_its_kernel() -> None:
    bench = bench_with(
        "exponential", {"name": "fair_kl"}, method={"kernels": {"age": {"kernel": "rbf", "bandwidth": 9.0}}}
    )
    batch = bench.batch(ROWS)
    age = batch.meta["age"].repeat(2).double()
    w = rbf(9.0)(age, age)[1].exp()
    found = bench.start().step(batch, START).log["fair_kl_site"]
    assert float(found) == pytest.approx(fair_by_hand(embedded(bench, batch)[1], batch, w), rel=1e-3)
    meta = dict(batch.meta) | {"age": torch.where(torch.arange(BATCH) < 2, torch.nan, batch.meta["age"])}
    gaps = Batch(batch.views, batch.index, meta, batch.target)
    w = torch.where(meta["age"].repeat(2).isnan()[:, None], 0.0, w)
    found = bench.method.step(gaps, START).log["fair_kl_site"]
    assert float(found) == pytest.approx(fair_by_hand(embedded(bench, gaps)[1], gaps, w.nan_to_num()), rel=1e-3)


def test_scans_of_an_unknown_site_take_no_part_and_one_site_costs_nothing() -> None:
    bench = bench_with("simclr", {"name": "fair_kl"})
    batch = bench.batch(ROWS)
    z = embedded(bench, batch)[1]
    for site in (torch.tensor([0, 1, -1, 1, 0, -1, 0, 1]), torch.tensor([0, 1, 2, 1, 0, 2, 0, 1])):
        meta = dict(batch.meta) | {"site": site}
        asked = Batch(batch.views, batch.index, meta, batch.target)
        found = bench.method.step(asked, START).log["fair_kl_site"]
        assert float(found) == pytest.approx(fair_by_hand(z, asked, None), rel=1e-3)
    for site in (torch.zeros(BATCH), torch.full((BATCH,), -1.0)):
        meta = dict(batch.meta) | {"site": site.long()}
        step = bench.method.step(Batch(batch.views, batch.index, meta, batch.target), START)
        assert float(step.log["fair_kl_site"]) == 0
        assert torch.isfinite(torch.autograd.grad(step.losses["loss"], bench.method.projector.parameters())[0]).all()


def test_alignment_and_uniformity_are_those_of_the_paper() -> None:
    bench = bench_with("simclr", {"name": "alignment", "alpha": 1.0}, {"name": "uniformity", "t": 3.0})
    batch = bench.batch(ROWS)
    log = bench.start().step(batch, START).log
    first, second = embedded(bench, batch)[1].chunk(2)
    assert float(log["alignment"]) == pytest.approx(float((first - second).norm(dim=1).mean()), rel=1e-3)
    none = torch.zeros(BATCH, BATCH)
    expected = (loops.uniformity(first, none, 3.0) + loops.uniformity(second, none, 3.0)) / 2
    assert float(log["uniformity"]) == pytest.approx(float(expected), rel=1e-3)


def test_terms_read_a_density_as_a_degree_of_sameness() -> None:
    terms = [{"name": "fair_kl"}, {"name": "uniformity", "conditional": True}]
    logs = []
    for kernel in ("rbf", "gaussian"):
        bench = bench_with("y_aware", *terms, method={"kernels": {"age": {"kernel": kernel, "bandwidth": 5.0}}})
        logs.append(bench.start().step(bench.batch(ROWS), START).log)
    for term in ("fair_kl_site", "uniformity"):
        assert float(logs[1][term]) == pytest.approx(float(logs[0][term]), rel=1e-5)


def test_conditional_terms_follow_the_kernel() -> None:
    bench = bench_with(
        "y_aware", {"name": "alignment", "conditional": True}, {"name": "uniformity", "conditional": True}
    )
    batch = bench.batch(ROWS)
    log = bench.start().step(batch, START).log
    z, age = embedded(bench, batch)[1], batch.meta["age"].double()
    w = rbf(5.0)(age, age)[1].exp()
    assert float(log["alignment"]) == pytest.approx(float(loops.alignment(z, w.repeat(2, 2))), rel=1e-3)
    parts = [loops.uniformity(view, w) for view in z.chunk(2)]
    assert float(log["uniformity"]) == pytest.approx(float(sum(parts) / 2), rel=1e-3)
    with pytest.raises(RecipeError, match="this method has none"):
        bench_with("simclr", {"name": "uniformity", "conditional": True})


def test_variance_and_covariance_read_raw_rows_or_scaled_unit_rows() -> None:
    for space in ("raw", "unit"):
        bench = bench_with("simclr", {"name": "variance", "space": space}, {"name": "covariance", "space": space})
        batch = bench.batch(ROWS)
        log = bench.start().step(batch, START).log
        raw, unit = embedded(bench, batch)
        views = (raw if space == "raw" else unit * unit.shape[1] ** 0.5).chunk(2)
        assert float(log["variance"]) == pytest.approx(float(sum(map(loops.variance, views)) / 2), rel=1e-3)
        assert float(log["covariance"]) == pytest.approx(float(sum(map(loops.covariance, views))), rel=1e-3)
        assert bench.method.chance is None


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_queue_of_keys_regularises_its_queries(symmetric: bool) -> None:
    bench = bench_with("moco", {"name": "fair_kl"}, {"name": "alignment"}, {"name": "variance"},
                       method={"symmetric": symmetric})  # fmt: skip
    step = bench.start().step(bench.batch(ROWS), START)
    assert all(torch.isfinite(v) for v in step.log.values())
    step.losses["loss"].backward()
    assert all(p.grad is None for p in bench.method.teacher.module.parameters())


def test_bfloat16_is_finite_and_single() -> None:
    bench = bench_with("exponential", *({"name": n} for n in REGULARIZERS))
    batch = bench.batch(ROWS)
    full = bench.start().step(batch, START).log
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = bench.method.step(batch, START)
    assert half.losses["loss"].dtype == torch.float32
    for name in ("alignment", "uniformity", "variance"):
        assert float(half.log[name]) == pytest.approx(float(full[name]), rel=0.1, abs=0.1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[{name: fair_lk}]", "regularizers.0.name is 'fair_lk', which is unknown; did you mean 'fair_kl'?"),
        (
            "[{name: fair_kl, wieght: 1}]",
            "is no argument of 'fair_kl'; did you mean 'regularizers.0.weight'?",
        ),
        (
            "[{name: alignment}, {name: fair_kl, form: js}]",
            "regularizers.1.form is 'js', but it must be 'kl'",
        ),
        ("[{name: fair_kl, weight: -1}]", "regularizers.0.weight is -1, but it must be a number from 0 to 1000000"),
        ("[{name: fair_kl, weight: much}]", "regularizers.0.weight is 'much'"),
        ("[{weight: 1}]", "'regularizers.0.name' is missing"),
    ],
)
def test_what_is_mistyped_is_named(given: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("simclr", [f"regularizers={given}"])
    assert words in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(CATALOG) - set(JOINT)))
def test_methods_without_a_joint_embedding_refuse(name: str) -> None:
    with pytest.raises(RecipeError, match=f"{name} has none; leave it out, or choose simclr, moco, .* or exponential"):
        parse_recipe({**load_recipe(name).to_dict(), "regularizers": [{"name": "fair_kl"}]})


def test_columns_that_cannot_be_compared_and_doubles_are_named() -> None:
    with pytest.raises(RecipeError, match="fair_kl reads the column 'scanner', but the manifest has no such"):
        bench_with("simclr", {"name": "fair_kl", "column": "scanner"})
    with pytest.raises(RecipeError, match="names fair_kl_site twice"):
        bench_with("simclr", {"name": "fair_kl"}, {"name": "fair_kl", "form": "moments"})
    both = bench_with("simclr", {"name": "fair_kl"}, {"name": "fair_kl", "column": "sex"})
    assert {"fair_kl_site", "fair_kl_sex"} <= set(both.start().step(both.batch(ROWS), START).log)
    one = Facts(SCANS, np.arange(SCANS), BATCH, SHAPE, {"site": np.zeros(SCANS)})
    with pytest.raises(RecipeError, match="the training rows hold fewer than two"):
        add_regularizers(Bench("simclr").method, "simclr", one, [("fair_kl", {})])
    assert set(columns()) == {"age", "sex", "site", "subject"}


def test_a_recipe_without_regularisers_is_the_old_one() -> None:
    assert load_recipe("simclr").regularizers == ()
    recipe = load_recipe("simclr", ["regularizers=[{name: fair_kl, weight: 1e-1, form: moments}]"])
    assert recipe.to_dict()["regularizers"] == [{"name": "fair_kl", "weight": 0.1, "form": "moments"}]
