"""Every catalogue name on a batch that two processes share (started by ``tests.training.ranks``), or one has alone.

All in float64, so that only a wrong factor or a wrong row makes a difference.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from medssl.distributed import world
from medssl.recipe.catalog import CATALOG, add_regularizers, entry
from medssl.types import Batch, Facts, Progress
from tests.methods.bench import BATCH, SCANS, SHAPE, Bench, columns
from tests.methods.variants import VARIANTS

STEPS = 2
TERMS = ("fair_kl", "alignment", "uniformity", "variance", "covariance")
LABELLED = [name for name in CATALOG if Bench(name).method.reads]
CASES = [(variant.name, variant.label) for variant in VARIANTS.values() if not variant.alone]
CASES += [(name, "missing") for name in LABELLED]
CASES += [(name, "blocks") for name in LABELLED if entry(name).family == "weak"]
CASES += [("y_aware", term) for term in TERMS]


def uneven(meta: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Ages of which the first half of every batch of eight lacks three, the second half one."""
    lost = torch.tensor([0, 1, 2, 6]).repeat(SCANS // 8) + torch.arange(SCANS // 8).repeat_interleave(4) * 8
    return meta | {"age": meta["age"].index_fill(0, lost, float("nan"))}


def bench_of(name: str, kind: str) -> Bench:
    """The case in float64: a variant of the common checks, or one with unevenly missing labels or a single term."""
    bench = VARIANTS[f"{name}-{kind}"].bench() if f"{name}-{kind}" in VARIANTS else _uneven_or_term(name, kind)
    bench.method.double()
    bench.x = bench.x.double()
    return bench


def _uneven_or_term(name: str, kind: str) -> Bench:
    lacking = kind in ("missing", "blocks")
    drop = {"missing": "drop"} if lacking and entry(name).family == "weak" else {}
    blocks = {"block": 3} if kind == "blocks" else {}
    bench = Bench(name, meta=uneven(columns()) if lacking else None, **drop, **blocks)
    terms = (kind,) if kind in TERMS else ()
    facts = Facts(SCANS, torch.arange(SCANS).numpy(), BATCH, SHAPE, {k: v.numpy() for k, v in bench.meta.items()})
    add_regularizers(bench.method, name, facts, [(t, {"weight": 0.5}) for t in terms])
    return bench


def trace(name: str, kind: str) -> dict[str, Any]:
    """Losses, gradients and final state of some steps, as the trainer makes them: gradients are averaged."""
    bench, number = bench_of(name, kind), world()
    rank, each = (dist.get_rank() if number > 1 else 0), BATCH // number
    method, steps = bench.start(), []
    for step in range(STEPS):
        rows = [(step * BATCH + i) % SCANS for i in range(BATCH)][rank * each : (rank + 1) * each]
        at, batch = Progress(step, 9, step // 3, 3), bench.batch(rows, step // 3)
        meta, target = ({k: _double(v) for k, v in part.items()} for part in (batch.meta, batch.target))
        batch = Batch(tuple(map(_double, batch.views)), batch.index, meta, target)
        out = method.step(batch, at)
        method.zero_grad(set_to_none=True)
        torch.stack(list(out.losses.values())).sum().backward()
        record = {k: _mean(v.detach(), number) for k, v in out.losses.items()}
        for key, p in method.named_parameters():
            if p.grad is not None:
                p.grad = _mean(p.grad, number)
                record[f"gradient of {key}"] = p.grad.clone()
        with torch.no_grad():
            for p in (p for ps in method.players().values() for p in ps):
                p -= 0.01 * p.grad
        method.after_step(out, batch, at)
        steps.append(record)
    return {"steps": steps, "state": {k: v.clone() for k, v in method.state_dict().items()}}


def _double(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x


def _mean(x: torch.Tensor, number: int) -> torch.Tensor:
    if number == 1:
        return x.clone()
    total = x.clone()
    dist.all_reduce(total)
    return total / number
