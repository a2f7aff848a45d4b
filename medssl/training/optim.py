"""Optimisers, parameter groups and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from medssl.training.options import Optimisation


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888; zoo.md row 93).

    g' = g + wd p;  q = eta |p| / |g'| (1 where a norm is 0);  v = mu v + q g';  p -= lr v.
    1-D parameters (biases, norms) take plain SGD with momentum and no weight decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = p.grad
                if p.ndim > 1:
                    update = update + group["weight_decay"] * p
                    size_p, size_g = p.norm(), update.norm()
                    one = torch.ones_like(size_p)
                    usable = (size_p > 0) & (size_g > 0)
                    ratio = group["eta"] * size_p / torch.where(usable, size_g, one)
                    update = update * torch.where(usable, ratio, one)
                state = self.state[p]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(p)
                velocity = state["velocity"]
                velocity.mul_(group["momentum"]).add_(update)
                p.add_(velocity, alpha=-group["lr"])
        return loss


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weight decay on matrices and kernels, none on norms and biases (1-D parameters)."""
    parameters = list(parameters)
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [g for g in groups if g["params"]]


def build_optimizer(options: Optimisation, parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """The optimiser of one player."""
    groups = parameter_groups(parameters, options.weight_decay)
    if options.name == "adamw":
        return AdamW(groups, lr=lr, betas=options.betas)
    if options.name == "adam":
        return Adam(groups, lr=lr, betas=options.betas)
    if options.name == "sgd":
        return SGD(groups, lr=lr, momentum=options.momentum)
    return LARS(groups, lr=lr, momentum=options.momentum)


def set_rates_(optimizer: Optimizer, lr: float, weight_decay: float | None) -> None:
    """Learning rate of all parameters, and weight decay of matrices and kernels (None: as it is)."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if weight_decay is not None and group["params"][0].ndim > 1:
            group["weight_decay"] = weight_decay


def weight_decay_at(options: Optimisation, step: int, steps: int) -> float | None:
    """Weight decay of a step (0-based), by a cosine from ``weight_decay`` to its final value; None where it stays."""
    if options.final_weight_decay is None:
        return None
    start, end = options.weight_decay, options.final_weight_decay
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))


def lr_factor(options: Optimisation, step: int, steps: int, steps_per_epoch: int) -> float:
    """Learning rate of a step (0-based) relative to ``lr``; ends at final_lr / lr for cosine and onecycle."""
    end = options.final_lr / options.lr if options.lr else 0.0
    warm = options.warmup * steps_per_epoch
    if options.schedule == "onecycle":
        warm = warm or 0.3 * steps
        if step < warm:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / warm))
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))
    if step < warm:
        return (step + 1) / (warm + 1)
    if options.schedule == "cosine":
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))
    if options.schedule == "step":
        return float(options.gamma ** (step // (options.every_epochs * steps_per_epoch)))
    return 1.0
