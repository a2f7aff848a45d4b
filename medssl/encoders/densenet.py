"""3D DenseNet-121 (Huang 2017) on MONAI's network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from monai.networks.nets.densenet import DenseNet as MonaiDenseNet
from torch import Tensor, nn

from medssl.checks import Depth, Interval, Listed, Width
from medssl.encoders.base import Encoder, init_cnn_, mean_over_voxels, norm_name
from medssl.encoders.resnet import Stem, Stride
from medssl.heads.blocks import Norm3d, norm_3d
from medssl.types import Features


def _channels(width: int, growth: int, depth: Sequence[int]) -> list[int]:
    """Every channel count that meets a norm; the last one is the width of the features."""
    counts, c = [width, 4 * growth], width
    for i, layers in enumerate(depth):
        counts += [c + k * growth for k in range(layers + 1)]
        c = counts[-1] if i == len(depth) - 1 else counts[-1] // 2
    return [*counts, c]


class DenseNet(Encoder):
    """Stem, dense blocks with halving transitions between them, average pooling; see ``densenet121``."""

    def __init__(
        self,
        in_channels: int,
        shape: Sequence[int] | None,
        width: int,
        growth: int,
        depth: Sequence[int],
        norm: str,
        stem: str,
        stem_stride: int,
        final: str,
    ) -> None:
        channels = _channels(width, growth, depth)
        stride = stem_stride * (2 if stem == "imagenet" else 1)
        coarse = 2 ** (len(depth) - 1) * (2 if norm == "instance" else 1)
        super().__init__(in_channels, channels[-1], shape, smallest=stride * (coarse - 1) + 1)
        net = MonaiDenseNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=1,
            init_features=width,
            growth_rate=growth,
            block_config=tuple(depth),
            norm=norm_name(norm, channels),
        )
        self.features: nn.Sequential = net.features
        kernel = 7 if stem == "imagenet" else 3
        self.features.conv0 = nn.Conv3d(in_channels, width, kernel, stride=stem_stride, padding=kernel // 2, bias=False)
        if stem == "small":
            self.features.pool0 = nn.Identity()
        self.final = final
        self.features.norm5 = norm_3d(norm, self.dim) if final == "norm" else nn.Identity()
        init_cnn_(self)

    def forward(self, x: Tensor) -> Features:
        """(N, C, D, H, W) -> pooled (N, E) and map (N, E, d, h, w)."""
        self.check(x)
        map_NE = self.features(x)
        if self.final != "none":
            map_NE = F.relu(map_NE)
        return Features(mean_over_voxels(map_NE), map_NE)


def densenet121(
    in_channels: int,
    shape: Sequence[int] | None,
    *,
    width: Annotated[int, Interval(2, 16384)] = 64,
    growth: Width = 32,
    depth: Annotated[Sequence[Depth], Listed(1, 8)] = (6, 12, 24, 16),
    norm: Norm3d = "batch",
    stem: Stem = "imagenet",
    stem_stride: Stride = 2,
    final: Literal["none", "relu", "norm"] = "none",
) -> DenseNet:
    """DenseNet-121 in 3D; the defaults are the published encoder: 1024 features, 11,240,576 parameters.

    That is the variant of the OpenBHB challenge kit and the ISBI 2023 study (``out_block="block4"``): the mean
    over voxels of the last dense block, without a final norm or activation. ``final="relu"`` adds the ReLU of the
    y-aware code (MICCAI 2021; the same count), ``final="norm"`` norm and ReLU as in Huang 2017 (2,048 parameters
    more). Convolutions start kaiming-normal fan-out, norms at 1 and 0.

    width: channels of the stem. growth: channels a layer adds. depth: layers of every dense block. norm: batch |
    group | instance; one number of groups for all layers, so width and growth should be multiples of 8. stem:
    imagenet = 7^3 convolution and max-pooling; small = a 3^3 convolution; stem_stride: the convolution's.
    """
    return DenseNet(in_channels, shape, width, growth, depth, norm, stem, stem_stride, final)
