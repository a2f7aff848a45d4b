"""A perceptron as encoder, for tables of regional measures and as the plainest of references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from medssl.checks import Sizes
from medssl.encoders.base import Encoder
from medssl.errors import RecipeError
from medssl.heads.mlp import MLP, Act, Norm
from medssl.types import Features


class VectorEncoder(Encoder):
    """Flatten each scan to a vector and run a perceptron; see ``mlp``."""

    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(
        self, in_channels: int, shape: Sequence[int] | None, hidden: Sequence[int], norm: Norm, act: Act
    ) -> None:
        if shape is None:
            raise RecipeError("encoder mlp needs shape: the number of values per scan, or its (D, H, W)")
        super().__init__(in_channels, hidden[-1])
        self.values = in_channels * math.prod(shape)
        self.net = MLP((self.values, *hidden), norm=norm, act=act, joint=False)

    def accept(self, shape: Sequence[int]) -> None:
        """RecipeError where a volume of this size has another number of values than the encoder reads."""
        if self.in_channels * math.prod(shape) != self.values:
            raise RecipeError(
                f"encoder mlp reads {self.values} values per scan, but is shown views of {list(shape)} voxels; choose "
                "a convolutional encoder, or views of the whole scan"
            )

    def forward(self, x: Tensor) -> Features:
        """(N, C, D, H, W) or (N, F) -> pooled (N, E)."""
        rows = x.flatten(1)
        if rows.shape[1] != self.values:
            raise RecipeError(
                f"encoder mlp expects {self.values} values per scan, but got {rows.shape[1]} "
                f"(input {tuple(x.shape)}); set shape and in_channels to those of the data"
            )
        return Features(self.net(rows))


def mlp(
    in_channels: int,
    shape: Sequence[int] | None,
    *,
    hidden: Sizes = (512, 256),
    norm: Norm = "batch",
    act: Act = "relu",
) -> VectorEncoder:
    """Perceptron on shape (a number of values, or D, H, W) times in_channels inputs; bring them to unit scale first.

    hidden: sizes of the layers, the last one is the width of the features and has neither norm nor activation.
    norm: batch | layer | group | none. act: relu | gelu | leaky_relu | tanh | none. Torch's default start.
    """
    return VectorEncoder(in_channels, shape, hidden, norm, act)
