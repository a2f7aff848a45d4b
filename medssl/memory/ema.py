"""A slowly moving copy of a module: the momentum encoder, the teacher, the target network."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medssl.errors import UserError


class EMA(nn.Module):
    """A copy ``module`` whose parameters follow k <- m k + (1 - m) q; it never receives gradient.

    momentum: m at the start, in [0, 1]; 1 is frozen, 0 copies. end_momentum: m at the end of the training, or
    "same". schedule: "const" (m stays), "cosine" (m_T - (m_T - m_0)(cos(pi f) + 1)/2, as BYOL) or "linear" in the
    fraction f of the training that is done. buffers: running statistics are copied ("copy", default) or
    follow like parameters ("ema"); integer buffers are always copied. ``updates`` counts the calls.
    Sources: He et al. 2020, arXiv 1911.05722; Grill et al. 2020, arXiv 2006.07733.
    """

    updates: Tensor

    def __init__(
        self,
        module: nn.Module,
        momentum: float = 0.99,
        end_momentum: float | Literal["same"] = 1.0,
        schedule: Literal["const", "cosine", "linear"] = "const",
        buffers: Literal["copy", "ema"] = "copy",
    ) -> None:
        super().__init__()
        end = momentum if end_momentum == "same" else end_momentum
        if not (0 <= momentum <= 1 and isinstance(end, (int, float)) and 0 <= end <= 1):
            raise UserError(f"momentum is {momentum} and end_momentum {end_momentum}; both must lie in [0, 1]")
        if schedule not in ("const", "cosine", "linear"):
            raise UserError(f"schedule is {schedule!r}; it is one of const, cosine, linear")
        if buffers not in ("copy", "ema"):
            raise UserError(f"buffers is {buffers!r}; it is one of copy, ema")
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.start, self.end, self.schedule, self.policy = float(momentum), float(end), schedule, buffers
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def momentum_at(self, fraction: float) -> float:
        """Return m at the fraction [0, 1] of the training that is done."""
        if self.schedule == "const":
            return self.start
        if self.schedule == "linear":
            return self.start + (self.end - self.start) * fraction
        return self.end - (self.end - self.start) * (math.cos(math.pi * fraction) + 1) / 2

    @torch.no_grad()
    def update(self, online: nn.Module, fraction: float = 0.0) -> None:
        """Move towards ``online``, a module of the same structure; call it after the optimiser step."""
        m = self.momentum_at(fraction)
        fast = dict(online.named_parameters())
        for name, slow in self.module.named_parameters():
            slow.mul_(m).add_(fast[name].detach().to(slow.dtype), alpha=1 - m)
        fast_buffers = dict(online.named_buffers())
        for name, kept in self.module.named_buffers():
            if self.policy == "ema" and kept.is_floating_point():
                kept.mul_(m).add_(fast_buffers[name].to(kept.dtype), alpha=1 - m)
            else:
                kept.copy_(fast_buffers[name])
        self.updates += 1

    def reset(self, online: nn.Module) -> None:
        """Become an exact copy of ``online`` again, such as after its weights were initialised from data."""
        self.module.load_state_dict(online.state_dict())

    @torch.no_grad()
    def distance(self, online: nn.Module) -> Tensor:
        """Euclidean distance ||k - q|| over all parameters, a scalar worth plotting."""
        fast = dict(online.named_parameters())
        return torch.stack([(k - fast[n]).float().norm() for n, k in self.module.named_parameters()]).norm()

    def forward(self, *inputs: Any) -> Any:
        """Run the copy without gradient."""
        with torch.no_grad():
            return self.module(*inputs)
