"""A projector as a file, so that z can be computed after training (``medssl embed --projection``)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal, TypedDict

from torch import Tensor, nn
from torch.nn import functional as F

from medssl.documents.shape import checked
from medssl.errors import UserError
from medssl.heads.mlp import MLP
from medssl.heads.weights import fill, read_weights, weights_of, write_weights

_KEY = "medssl_head"


class _Head(TypedDict):
    kind: Literal["mlp", "linear"]
    normalise: bool
    dims: list[int]


class Projection(nn.Module):
    """h (N, E) to z (N, D), L2-normalised where the loss compares directions."""

    def __init__(self, projector: nn.Module, normalise: bool) -> None:
        super().__init__()
        self.projector, self.normalise = projector, normalise

    def forward(self, h_NE: Tensor) -> Tensor:
        """z (N, D)."""
        z_ND: Tensor = self.projector(h_NE)
        return F.normalize(z_ND, dim=1) if self.normalise else z_ND


def save_head(projector: nn.Module, path: Path, *, normalise: bool) -> None:
    """Write an MLP or a linear layer as safetensors with what is needed to build it again, atomically."""
    if isinstance(projector, MLP):
        spec = {"kind": "mlp", **projector.spec}
    elif isinstance(projector, nn.Linear):
        spec = {"kind": "linear", "dims": [projector.in_features, projector.out_features]}
    else:
        raise TypeError(f"a {type(projector).__name__} cannot be kept as a projector; use heads.MLP")
    write_weights(path, weights_of(projector), _KEY, spec | {"normalise": normalise})


def load_head(path: Path) -> Projection:
    """Read what ``save_head`` wrote, in eval mode.

    Raises UserError when the file is damaged or something else.
    """
    spec, weights = read_weights(path, _KEY)
    dims = checked(spec, _Head, f"{path}: its description", "train again")["dims"]
    if sum(a * b for a, b in itertools.pairwise(dims)) > sum(tensor.numel() for tensor in weights.values()):
        raise UserError(f"{path}: its description names a projector larger than its weights; train again")
    try:
        normalise, kind = bool(spec.pop("normalise")), spec.pop("kind")
        projector = nn.Linear(*spec["dims"]) if kind == "linear" else MLP(**spec)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(f"{path}: its description names no projector of this version; train again") from None
    return Projection(fill(projector, weights, path, "projector"), normalise).eval()
