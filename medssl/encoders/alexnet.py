"""3D AlexNet, the lightest encoder of the ISBI 2023 study; MONAI has none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from medssl.checks import Width
from medssl.encoders.base import Encoder, init_cnn_
from medssl.heads.blocks import Norm3d, norm_3d
from medssl.types import Features


class AlexNet3D(Encoder):
    """Five convolutions with two coarse max-poolings, then the maximum over voxels; see ``alexnet3d``."""

    def __init__(self, in_channels: int, shape: Sequence[int] | None, width: int, norm: str) -> None:
        w = width
        super().__init__(in_channels, 2 * w, shape, smallest=35 if norm == "instance" else 17)
        layers: list[nn.Module] = []
        widths = (in_channels, w, 2 * w, 3 * w, 3 * w, 2 * w)
        for i, (a, b) in enumerate(pairwise(widths)):
            kernel, stride = (5, 2) if i == 0 else (3, 1)
            layers.append(nn.Conv3d(a, b, kernel, stride=stride, padding=kernel // 2, bias=False))
            layers += [norm_3d(norm, b), nn.ReLU(inplace=True)]
            if i < 2:
                layers.append(nn.MaxPool3d(3, stride=3))
        self.features = nn.Sequential(*layers)
        init_cnn_(self)

    def forward(self, x: Tensor) -> Features:
        """(N, C, D, H, W) -> pooled (N, E), the maximum over voxels, and map (N, E, d, h, w)."""
        self.check(x)
        map_NE = self.features(x)
        return Features(map_NE.amax((2, 3, 4)), map_NE)


def alexnet3d(in_channels: int, shape: Sequence[int] | None, *, width: Width = 64, norm: Norm3d = "batch") -> AlexNet3D:
    """AlexNet in 3D: convolutions of 64, 128, 192, 192, 128 channels (5^3 of stride 2, then 3^3), 128 features.

    Max-pooling 3^3 of stride 3 follows the first two, a global maximum the last. Against the published network
    the first two convolutions are padded (so that 32^3 voxels are enough) and convolutions have no bias, which
    the norm behind them would cancel. They start kaiming-normal fan-out. width: channels of the first one (the
    others are 2, 3, 3 and 2 times it). norm: batch | group | instance.
    """
    return AlexNet3D(in_channels, shape, width, norm)
