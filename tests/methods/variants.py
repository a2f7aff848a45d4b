"""Every catalogue name with the settings that switch its code paths, ready for the common checks.

All in float64, two optimiser steps into a training, so that a queue is filled and a teacher differs from its source.
What a variant is exempt from is declared here, with the reason.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.methods.base import Method
from medssl.recipe.catalog import CATALOG, add_regularizers, entry
from medssl.recipe.model import load_recipe
from medssl.types import Batch, Facts, Progress
from medssl.views.pair import ViewMaker
from medssl.views.policies import build_policy
from tests.methods.bench import BATCH, SCANS, SHAPE, Bench, columns, volumes

NOW = Progress(2, 9, 0, 3)
"""Where the training of a ready variant stands."""
ALL_TERMS = tuple((name, {"weight": 0.5}) for name in ("fair_kl", "alignment", "uniformity", "variance", "covariance"))
SQUARE = "the published code counts in the rows of the candidates, which are not all here"


@dataclass(frozen=True)
class Variant:
    """A catalogue name and what is set. lacks: half of the ages are missing.

    statistics: parts whose batch norms count what they see, so that a step moves their running statistics.
    alone: why two processes need not compute what one does; "" where they must.
    """

    name: str
    label: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    terms: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    lacks: bool = False
    statistics: tuple[str, ...] = ()
    alone: str = ""

    @property
    def key(self) -> str:
        """Name of the variant in test ids and records."""
        return f"{self.name}-{self.label}"

    def columns(self) -> dict[str, Tensor]:
        """Columns of the manifest that it is trained with."""
        meta = columns() | {"subject": torch.arange(SCANS) // 2}  # two scans of every person
        lost = torch.arange(SCANS) % 4 == 1
        return meta | {"age": torch.where(lost, torch.nan, meta["age"])} if self.lacks else meta

    def bench(self) -> Bench:
        """A fresh bench, in single precision, with the terms added."""
        bench = Bench(self.name, meta=self.columns(), **self.arguments)
        labels = {k: v.numpy().astype(float) for k, v in bench.meta.items()}
        facts = Facts(SCANS, torch.arange(SCANS).numpy(), BATCH, SHAPE, labels)
        add_regularizers(bench.method, self.name, facts, [(term, dict(given)) for term, given in self.terms])
        return bench


def _variants() -> tuple[Variant, ...]:
    batch_norm = {"statistics": ("projector",)}
    two_labels = {"age": {"kernel": "rbf", "bandwidth": 5.0}, "sex": {"kernel": "categorical"}}
    cases = [Variant(name, "plain") for name in CATALOG]
    cases += [Variant(name, "terms", terms=ALL_TERMS) for name in CATALOG if entry(name).load().joint]
    cases += [
        Variant("simclr", "positive", {"relatives": "positive"}),
        Variant("simclr", "negative", {"relatives": "negative"}),
        Variant("simclr", "block", {"block": 5}),
        Variant("simclr", "batch_norm", {"norm": "batch"}, **batch_norm),
        Variant("moco", "one_sided", {"symmetric": False}),
        Variant("moco", "small_queue", {"queue": 5}),
        Variant("moco", "batch_norm", {"norm": "batch"}, statistics=("projector", "teacher")),
        Variant("y_aware", "batch_norm", {"projector_norm": "batch"}, **batch_norm),
        Variant("y_aware", "two_labels", {"kernels": two_labels}),
        Variant("threshold", "slide", {"norm": "slide", "ratio_max": 100.0}),
        Variant("threshold", "isbi_code", {"variant": "isbi_code"}, alone=SQUARE),
        Variant("threshold", "two_labels", {"kernels": two_labels}),
        Variant("exponential", "include_k", {"variant": "include_k"}),
        Variant("exponential", "isbi_code", {"variant": "isbi_code"}),
        Variant("mae", "norm_pix", {"norm_pix": True}),
        Variant("deepcluster", "four", {"clusters": 4}),
        Variant("l1_age", "lacking", lacks=True),
    ]
    for name in ("y_aware", "threshold", "exponential"):
        cases += [Variant(name, "self", {"missing": "self"}, lacks=True)]
        blocks = {} if name == "y_aware" else {"block": 5}
        cases += [Variant(name, "drop", {"missing": "drop", **blocks}, lacks=True)]
    conditional = (
        ("fair_kl", {"weight": 0.5, "form": "moments"}),
        ("alignment", {"weight": 0.5, "conditional": True}),
        ("uniformity", {"weight": 0.5, "conditional": True}),
        ("variance", {"weight": 0.5, "space": "unit", "gamma": 2.0}),
        ("covariance", {"weight": 0.5, "space": "unit"}),
    )
    return (*cases, Variant("exponential", "conditional", terms=conditional))


VARIANTS: Mapping[str, Variant] = {variant.key: variant for variant in _variants()}


@dataclass
class Ready:
    """A variant two steps into its training; ``method`` may be changed, it is a copy."""

    variant: Variant
    method: Method

    def batch(self, rows: tuple[int, ...] = tuple(range(16, 24))) -> Batch:
        """The views of these rows of the cohort, in float64."""
        return batch_of(self.variant, self.method, rows)

    def state(self) -> dict[str, Tensor]:
        """All parameters and buffers as they are now, also those that no checkpoint holds."""
        tensors = dict(self.method.named_parameters()) | dict(self.method.named_buffers())
        return {k: v.detach().clone() for k, v in tensors.items()}

    def counted(self) -> set[str]:
        """Names of the running statistics of batch norms in the parts that declare them."""
        return {
            f"{name}.{buffer}"
            for name, module in self.method.named_modules()
            if isinstance(module, _BatchNorm) and name.partition(".")[0] in self.variant.statistics
            for buffer, _ in module.named_buffers()
        }

    def descend(self, losses: Mapping[str, Tensor], rate: float = 0.01) -> None:
        """One step of plain gradient descent of every player."""
        self.method.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        with torch.no_grad():
            for p in (p for parameters in self.method.players().values() for p in parameters):
                if p.grad is not None:
                    p -= rate * p.grad
        self.method.zero_grad(set_to_none=True)


def ready(key: str) -> Ready:
    """A variant two steps into its training; every call gives a copy of its own."""
    return Ready(VARIANTS[key], copy.deepcopy(_trained(key)))


@cache
def _trained(key: str) -> Method:
    variant = VARIANTS[key]
    bench = variant.bench()
    bench.method.double()
    bench.x = bench.x.double()
    made = Ready(variant, bench.start())
    for step in range(NOW.step):
        at = Progress(step, NOW.steps, 0, NOW.epochs)
        batch = made.batch(tuple(range(step * BATCH, (step + 1) * BATCH)))
        out = made.method.step(batch, at)
        made.descend(out.losses)
        made.method.after_step(out, batch, at)
    return made.method


def batch_of(variant: Variant, method: Method, rows: tuple[int, ...]) -> Batch:
    """A batch in float64; views are made once for all variants that are shown the same."""
    policy = json.dumps(load_recipe(variant.name).views.policy)
    views, target = _views(policy, method.views, tuple(sorted(method.wants.items())), rows)
    index = torch.tensor(rows)
    meta = {k: _double(v[index]) for k, v in variant.columns().items()}
    return Batch(views, index, meta, dict(target))


@cache
def _views(
    policy: str, count: int, wants: tuple[tuple[str, tuple[int, ...]], ...], rows: tuple[int, ...]
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    maker = ViewMaker(build_policy(json.loads(policy)), n_views=count, wants=dict(wants))
    made = [maker(volumes()[row], 0, row) for row in rows]
    views = tuple(torch.stack([views[v] for views, _ in made]).double() for v in range(count))
    return views, {name: torch.stack([target[name] for _, target in made]).double() for name, _ in wants}


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def modules_of(method: Method, kinds: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    """The parts of a method that are of these kinds, by name."""
    return {name: module for name, module in method.named_modules() if isinstance(module, kinds)}
