from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from medssl.errors import RecipeError, UserError
from medssl.heads.mlp import MLP
from medssl.losses.redundancy import covariance, variance
from medssl.methods.base import Method
from medssl.recipe.catalog import CATALOG, add_regularizers
from medssl.training.adapter import Hooks, MethodModule
from medssl.training.gradcache import GradientCache, average_gradients_, gradient_cache
from medssl.training.options import Optimisation, TrainerOptions
from medssl.types import Batch, Facts, Features, Progress, Rows, Step
from tests.methods.bench import BATCH, START, Bench, moved

ABLE = [name for name, entry in CATALOG.items() if entry.load().embeds()]
FAIR = [("fair_kl", {"weight": 0.5}), ("variance", {"weight": 0.3}), ("uniformity", {"weight": 0.1})]


def cpu() -> torch.device:
    return torch.device("cpu")


def gradients(method: Method) -> dict[str, Tensor]:
    found = {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return found


def whole(method: Method, batch: Batch) -> tuple[Step, dict[str, Tensor]]:
    out = method.step(batch, START)
    out.losses["loss"].backward()
    return out, gradients(method)


def cached(
    method: Method, batch: Batch, size: int, norm: str = "batch", seed: Callable[[int], int] = int
) -> tuple[Step, dict[str, Tensor]]:
    cache = GradientCache(method, size, norm, cpu)
    out = cache.forward(batch, START, seed)
    cache.backward(out.losses["loss"])
    return out, gradients(method)


def error(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Relative error of the gradient of all parameters."""
    assert got.keys() == wanted.keys()
    both = (torch.cat([g[k].flatten() for k in wanted]) for g in (got, wanted))
    mine, truth = (x.double() for x in both)
    return float((mine - truth).norm() / truth.norm())


def test_every_contrastive_name_can_be_cached_and_the_others_say_who_can() -> None:
    assert {"simclr", "moco", "y_aware", "threshold", "exponential"} <= set(ABLE)
    assert not {"mae", "bigan", "deepcluster", "l1_age"} & set(ABLE)
    from medssl.recipe.model import parse_recipe

    with pytest.raises(RecipeError, match=r"loss of mae needs more.*trainer\.accumulate.*simclr"):
        parse_recipe({"method": "mae", "trainer": {"micro_batch": 4}})
    assert parse_recipe({"method": "simclr", "trainer": {"micro_batch": 4}}).trainer.micro_batch == 4


@pytest.mark.parametrize("size", [1, 3, 4, 99])
@pytest.mark.parametrize("name", ABLE)
def test_gradients_are_those_of_the_whole_batch(name: str, size: int) -> None:
    bench = Bench(name)
    method, batch = bench.start(), bench.batch(list(range(BATCH)))
    out, wanted = whole(method, batch)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    again, got = cached(method, batch, size)
    assert error(got, wanted) < 1e-5
    torch.testing.assert_close(again.losses["loss"], out.losses["loss"], rtol=1e-6, atol=0)
    assert out.carry.keys() == again.carry.keys()
    for key, value in out.carry.items():
        torch.testing.assert_close(again.carry[key], value, rtol=1e-4, atol=1e-5)
    for value in (*again.log.values(), *again.carry.values()):
        assert not value.requires_grad
    assert moved(before, method.state_dict()) == []


@pytest.mark.parametrize("name", ABLE)
def test_batch_norm_in_a_projector_sees_the_whole_batch(name: str) -> None:
    arguments = CATALOG[name].arguments()
    bench = Bench(name, **{"projector_norm" if "projector_norm" in arguments else "norm": "batch"})
    method, batch = bench.start().double(), bench.batch(list(range(BATCH)))
    batch = replace(batch, views=tuple(v.double() for v in batch.views))
    assert any(isinstance(m, nn.BatchNorm1d) for m in method.modules())
    before = {k: v.clone() for k, v in method.state_dict().items()}
    out, wanted = whole(method, batch)
    once = {k: v.clone() for k, v in method.state_dict().items()}
    method.load_state_dict(before)
    again, got = cached(method, batch, 3)
    torch.testing.assert_close(again.losses["loss"], out.losses["loss"], rtol=1e-9, atol=0)
    assert error(got, wanted) < 1e-9
    for key, value in method.state_dict().items():
        torch.testing.assert_close(value, once[key], equal_nan=True, msg=key)


@pytest.mark.parametrize("name", ABLE)
def test_in_double_precision_every_single_gradient_agrees(name: str) -> None:
    bench = Bench(name)
    method, batch = bench.start().double(), bench.batch(list(range(BATCH)))
    batch = replace(batch, views=tuple(v.double() for v in batch.views))
    (_, wanted), (_, got) = whole(method, batch), cached(method, batch, 3)
    for key, value in wanted.items():
        assert float((got[key] - value).norm()) < 1e-9 * float(value.norm()), key


def test_regularisers_see_the_whole_batch() -> None:
    bench = Bench("y_aware")
    labels = {k: v.numpy().astype(float) for k, v in bench.meta.items()}
    facts = Facts(24, labels["subject"].astype(int), BATCH, (1, 16, 16, 16), labels)
    add_regularizers(bench.method, "y_aware", facts, FAIR)
    method, batch = bench.start(), bench.batch(list(range(BATCH)))
    out, wanted = whole(method, batch)
    again, got = cached(method, batch, 3)
    assert error(got, wanted) < 1e-5
    for term in ("fair_kl_site", "variance", "uniformity"):
        assert float(again.log[term]) == pytest.approx(float(out.log[term]), rel=1e-4)


class Redundant(Method):
    """VICReg as a method would join: the encoder is the default, and the projector has a batch norm of its own."""

    def __init__(self, encoder: nn.Module, facts: Facts) -> None:
        super().__init__(encoder, facts)
        self.projector = MLP((self.width, 12, 8), norm="batch")

    def compare(self, rows: Rows, batch: Batch, progress: Progress) -> Step:
        assert batch.views == ()
        a_BD, b_BD = (self.projector(h_BE) for h_BE in rows[0])
        spread = sum(variance(z) + covariance(z) for z in (a_BD, b_BD))
        return Step({"loss": (a_BD - b_BD).square().mean() + spread})


def encoder_of(*layers: nn.Module, dim: int = 6) -> nn.Module:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.dim = nn.Sequential(*layers), dim

        def forward(self, x: Tensor) -> Features:
            return Features(self.net(x).flatten(2).mean(2))

    torch.manual_seed(0)
    return Small()


def redundant(*layers: nn.Module) -> tuple[Redundant, Batch]:
    torch.manual_seed(1)
    facts = Facts(BATCH, torch.arange(BATCH).numpy(), BATCH, (1, 6, 6, 6))
    method = Redundant(encoder_of(*layers), facts)
    index = torch.arange(BATCH)
    views = tuple(torch.randn(BATCH, 1, 6, 6, 6) for _ in range(2))
    return method, Batch(views, index, {"subject": index})


def test_a_method_that_defines_compare_alone_can_be_cached() -> None:
    method, batch = redundant(nn.Conv3d(1, 6, 3), nn.ReLU())
    _, wanted = whole(method, batch)
    count = method.projector.net[1].num_batches_tracked
    assert int(count) == 2, "once per view"
    _, got = cached(method, batch, 3)
    assert error(got, wanted) < 1e-5
    assert int(count) == 4, "the projector's norm saw the whole batch, and once"


def test_dropout_draws_the_same_numbers_in_both_passes() -> None:
    method, batch = redundant(nn.Conv3d(1, 6, 3), nn.Dropout(0.5))
    _, got = cached(method, batch, 3, seed=lambda part: 77 + part)
    torch.manual_seed(0)
    rows = []
    for part in range(3):  # the same micro-batches, with all their graphs
        scans = slice(3 * part, 3 * part + 3)
        torch.manual_seed(77 + part)
        rows.append(method.embed(replace(batch, views=tuple(v[scans] for v in batch.views)))[0])
    method.compare((torch.cat(rows, 1),), replace(batch, views=()), START).losses["loss"].backward()
    assert error(got, gradients(method)) < 1e-6
    _, other = cached(method, batch, 3, seed=lambda part: 78 + part)
    assert error(other, got) > 1e-2, "dropout does not act"


def test_batch_norm_counts_a_micro_batch_once_and_compares_with_itself() -> None:
    method, batch = redundant(nn.Conv3d(1, 6, 3), nn.BatchNorm3d(6), nn.ReLU())
    norm = method.encoder.net[1]
    start = {k: v.clone() for k, v in method.state_dict().items()}
    _, got = cached(method, batch, 4)
    assert int(norm.num_batches_tracked) == 2
    after = norm.running_mean.clone(), norm.running_var.clone()
    method.load_state_dict(start)
    rows = [method.embed(replace(batch, views=tuple(v[s] for v in batch.views)))[0] for s in (slice(4), slice(4, 8))]
    torch.testing.assert_close((norm.running_mean, norm.running_var), after)
    method.compare((torch.cat(rows, 1),), replace(batch, views=()), START).losses["loss"].backward()
    assert error(got, gradients(method)) < 1e-5
    assert norm.training
    assert norm.track_running_stats


def test_frozen_batch_norm_gives_the_whole_batch_and_stays() -> None:
    method, batch = redundant(nn.Conv3d(1, 6, 3), nn.BatchNorm3d(6), nn.ReLU())
    norm = method.encoder.net[1]
    norm.running_mean += 0.3
    before = norm.running_mean.clone(), int(norm.num_batches_tracked)
    _, got = cached(method, batch, 3, norm="frozen")
    assert torch.equal(norm.running_mean, before[0])
    assert int(norm.num_batches_tracked) == before[1]
    assert norm.training
    norm.eval()
    _, wanted = whole(method, batch)
    assert error(got, wanted) < 1e-5


def test_bfloat16_casts_every_weight_with_its_graph() -> None:
    bench = Bench("exponential")
    method, batch = bench.start(), bench.batch(list(range(BATCH)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, wanted = whole(method, batch)
        out, got = cached(method, batch, 3)
    assert out.losses["loss"].dtype == torch.float32
    assert error(got, wanted) < 0.05


@pytest.mark.parametrize("late", [False, True])
def test_views_wait_in_the_main_memory_but_where_they_are_made_on_the_device(late: bool) -> None:
    hooks = Hooks(
        loader=lambda *_: None, embed=lambda *_: (torch.empty(0),) * 2, scan_weights=None, late=late,
        on_step=lambda *_: None, on_epoch=lambda *_: None, rewind=lambda _: None, progress=lambda *_: None,
    )  # fmt: skip
    options = TrainerOptions(accelerator="cpu", micro_batch=2)
    module = MethodModule(Bench("simclr").method, Optimisation(), options, hooks)
    zeros = {name: torch.zeros(4, dtype=torch.int64) for name in ("index", "epoch", "repeat")}
    item = {"views": [torch.zeros(4, 1, 2, 2, 2)], **zeros, "meta": {"age": torch.zeros(4)}, "target": {}}
    there = module.transfer_batch_to_device(item, torch.device("meta"), 0)
    assert there["views"][0].device.type == ("meta" if late else "cpu")
    assert there["index"].device.type == there["meta"]["age"].device.type == "meta"


def test_a_method_without_embeddings_is_refused() -> None:
    simclr, mae = Bench("simclr").method, Bench("mae").method
    assert gradient_cache(mae, TrainerOptions(), cpu) is None
    with pytest.raises(UserError, match=r"trainer\.micro_batch=2 needs a loss of the embeddings"):
        gradient_cache(mae, TrainerOptions(micro_batch=2), cpu)
    assert gradient_cache(simclr, TrainerOptions(micro_batch=2), cpu) is not None


def half(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    bench = Bench("y_aware")
    method = bench.start()
    rows = list(range(BATCH))[4 * rank : 4 * rank + 4]
    cache = GradientCache(method, 3, "batch", cpu)
    cache.backward(cache.forward(bench.batch(rows), START, int).losses["loss"])
    average_gradients_(method)
    torch.save(gradients(method), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow  # starts two interpreters
def test_two_processes_add_up_to_the_gradient_of_one(tmp_path: Path) -> None:
    bench = Bench("y_aware")
    _, wanted = whole(bench.start(), bench.batch(list(range(BATCH))))
    mp.spawn(half, (str(tmp_path),), nprocs=2)
    parts: list[Any] = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert error(parts[0], wanted) < 1e-5
    assert error(parts[1], parts[0]) == 0
