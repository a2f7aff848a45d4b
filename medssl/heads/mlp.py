"""Projector, predictor or classifier: a perceptron on pooled vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medssl.checks import Dims, check
from medssl.errors import RecipeError
from medssl.heads.blocks import groups_of
from medssl.heads.joint_norm import JointBatchNorm1d

_ACTS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}
Norm = Literal["batch", "layer", "group", "none"]
Act = Literal["relu", "gelu", "leaky_relu", "tanh", "none"]


def _norm_1d(kind: str, features: int, affine: bool, joint: bool) -> nn.Module:
    if kind == "batch":
        return JointBatchNorm1d(features, affine=affine) if joint else nn.BatchNorm1d(features, affine=affine)
    if kind == "layer":
        return nn.LayerNorm(features, elementwise_affine=affine)
    if kind == "group":
        return nn.GroupNorm(groups_of(features), features, affine=affine)
    return nn.Identity()


def behind(width: int, units: Sequence[int | Literal["width"]]) -> tuple[int, ...]:
    """``dims`` of an MLP on features of this width; "width" among the units is that many.

    >>> behind(512, ("width", 128))
    (512, 512, 128)
    """
    return (width, *(width if n == "width" else n for n in units))


class MLP(nn.Module):
    """Linear, norm, activation for every hidden size, then a linear layer, optionally with a norm of its own.

    dims: sizes from input to output; two of them make a linear layer. norm: batch | layer | group | none.
    act: relu | gelu | leaky_relu | tanh | none. last_norm: a norm behind the last layer (SimSiam, BYOL, MoCo v3
    projectors), without scale and shift unless last_affine. bias: None gives every linear layer a bias that no
    norm follows; True or False decides for all. joint: batch norm is over the rows of all processes that train
    together. Weights start as torch's ``nn.Linear`` does.

    Published projectors: y-aware and ISBI ``MLP((F, F, 128), norm="none")``; SimCLR v1 the same;
    SimSiam ``MLP((F, F, F, F), last_norm=True, bias=False)``. ``MLP(**spec)`` builds the same again.
    """

    def __init__(
        self,
        dims: Sequence[int],
        norm: Norm = "batch",
        act: Act = "relu",
        last_norm: bool = False,
        bias: bool | None = None,
        last_affine: bool = False,
        joint: bool = True,
    ) -> None:
        super().__init__()
        sizes = tuple(check("dims", dims, Dims, RecipeError))
        check("norm", norm, Norm, RecipeError)
        make_act = _ACTS[check("act", act, Act, RecipeError)]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(sizes)):
            last = i == len(sizes) - 2
            normed = norm != "none" and (last_norm or not last)
            layers.append(nn.Linear(a, b, bias=not normed if bias is None else bias))
            if normed:
                layers.append(_norm_1d(norm, b, last_affine or not last, joint))
            if not last:
                layers.append(make_act())
        self.net = nn.Sequential(*layers)
        self.dims = sizes
        self.spec: dict[str, Any] = {
            "dims": list(sizes),
            "norm": norm,
            "act": act,
            "last_norm": last_norm,
            "bias": bias,
            "last_affine": last_affine,
        }

    def forward(self, x: Tensor) -> Tensor:
        """(..., dims[0]) -> (..., dims[-1]); leading dimensions are rows, as for a batch (N, F).

        In the precision of the weights, also under autocast: a perceptron on vectors costs little beside an encoder.
        """
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).to(next(self.parameters()).dtype)
            return self.net(rows).reshape(*x.shape[:-1], self.dims[-1])

    @torch.no_grad()
    def calibrate_(self, h_NE: Tensor) -> None:
        """Scale and shift every linear layer so that its outputs on ``h_NE`` have mean 0 and deviation 1 per unit.

        Pooled features of a fresh encoder point almost the same way, so that all similarities start near 1, where
        their gradient vanishes; a contrastive loss may then stay there. Data-dependent initialisation as in
        Salimans and Kingma 2016, arXiv 1602.07868, section 3. Units that do not vary are only shifted; layers that
        a norm follows are left as they are. Needs two rows or more.
        """
        if len(h_NE) < 2:
            return
        x = h_NE.to(next(self.parameters()))
        for layer in self.net:
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                out = layer(x)
                mean, std = out.mean(0), out.std(0)
                scale = torch.where(std > 1e-6 * out.abs().amax().clamp(min=1e-12), 1 / std.clamp(min=1e-12), 1.0)
                layer.weight.mul_(scale[:, None])
                layer.bias.copy_((layer.bias - mean) * scale)
            x = layer.local(x) if isinstance(layer, JointBatchNorm1d) else layer(x)
