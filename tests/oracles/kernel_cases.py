"""The weakly supervised losses beside their loops, and how a value and a gradient are taken."""

from __future__ import annotations

import torch

from medssl.losses.kernel import exponential, threshold, y_aware
from tests.oracles import kernel_loops as loops

LOSSES = {
    "y_aware": (y_aware, loops.y_aware),
    "threshold": (threshold, lambda s, w, v: loops.threshold(s, w, v, "anchor")),
    "threshold_slide": (
        lambda s, w, v: threshold(s, w, v, norm="slide"),
        lambda s, w, v: loops.threshold(s, w, v, "slide"),
    ),
    "threshold_isbi": (lambda s, w, v: threshold(s, w, v, variant="isbi_code"), loops.threshold_isbi),
    "exponential": (exponential, lambda s, w, v: loops.exponential(s, w, v, "slide")),
    "exponential_k": (
        lambda s, w, v: exponential(s, w, v, variant="include_k"),
        lambda s, w, v: loops.exponential(s, w, v, "include_k"),
    ),
    "exponential_isbi": (
        lambda s, w, v: exponential(s, w, v, variant="isbi_code"),
        lambda s, w, v: loops.exponential(s, w, v, "isbi_code"),
    ),
}
RECTANGULAR = sorted(set(LOSSES) - {"threshold_isbi"})


def value_and_gradient(loss, sim, *rest):
    value = loss(sim, *rest)
    return value.detach(), torch.autograd.grad(value, sim)[0]
