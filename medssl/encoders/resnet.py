"""3D residual networks (He 2016) from MONAI's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from medssl.checks import Depth, Interval, Listed, Width
from medssl.encoders.base import Encoder, init_cnn_, mean_over_voxels, norm_name
from medssl.heads.blocks import Norm3d, norm_3d
from medssl.types import Features

Stem = Literal["imagenet", "small"]
Stride = Annotated[int, Interval(1, 8)]
Stages = Annotated[Sequence[Depth], Listed(1, 4)]


def stem_3d(stem: str, stride: int, in_channels: int, width: int, norm: str) -> nn.Sequential:
    """The first layers: imagenet = 7^3 convolution and max-pooling 3^3 of stride 2; small = one 3^3 convolution.

    stride is the first convolution's. The small stem keeps detail in coarse volumes (4 mm, about 40^3).
    """
    kernel = 7 if stem == "imagenet" else 3
    conv = nn.Conv3d(in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)
    layers = [conv, norm_3d(norm, width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool3d(3, stride=2, padding=1)] if stem == "imagenet" else []))


def _stage(
    block: type[ResNetBlock] | type[ResNetBottleneck],
    inp: int,
    width: int,
    count: int,
    stride: int,
    norm: str,
) -> nn.Sequential:
    out = width * block.expansion
    name = norm_name(norm, (width, out))
    skip = None
    if stride != 1 or inp != out:
        skip = nn.Sequential(nn.Conv3d(inp, out, 1, stride=stride, bias=False), norm_3d(norm, out))
    first = block(inp, width, spatial_dims=3, stride=stride, downsample=skip, norm=name)
    return nn.Sequential(first, *(block(out, width, spatial_dims=3, norm=name) for _ in range(count - 1)))


class ResNet(Encoder):
    """Stem, one to four stages of residual blocks (each halves the grid and doubles the width), average pooling.

    ``map`` is the last stage after its ReLU, ``pooled`` its mean over voxels (so not negative). Blocks are
    MONAI's; the stages are put together here because MONAI's class gives its inner blocks batch norm whatever
    ``norm`` says, and its shortcut "A" cuts the gradient. Shortcuts are 1^3 convolutions without bias.
    Convolutions start kaiming-normal fan-out, norms at 1 and 0.
    """

    def __init__(
        self,
        in_channels: int,
        shape: Sequence[int] | None,
        block: type[ResNetBlock] | type[ResNetBottleneck],
        width: int,
        depth: Sequence[int],
        norm: str,
        stem: str,
        stem_stride: int,
    ) -> None:
        first = stem_3d(stem, stem_stride, in_channels, width, norm)
        total = stem_stride * (2 if stem == "imagenet" else 1) * 2 ** (len(depth) - 1)
        dim = width * 2 ** (len(depth) - 1) * block.expansion
        super().__init__(in_channels, dim, shape, smallest=total + 1 if norm == "instance" else max(2, total // 2))
        self.stem = first
        stages, inp = [], width
        for i, count in enumerate(depth):
            stages.append(_stage(block, inp, width * 2**i, count, 1 if i == 0 else 2, norm))
            inp = width * 2**i * block.expansion
        self.stages = nn.Sequential(*stages)
        init_cnn_(self)

    def forward(self, x: Tensor) -> Features:
        """(N, C, D, H, W) -> pooled (N, E) and map (N, E, d, h, w)."""
        self.check(x)
        map_NE = self.stages(self.stem(x))
        return Features(mean_over_voxels(map_NE), map_NE)


def resnet18(
    in_channels: int,
    shape: Sequence[int] | None,
    *,
    width: Width = 64,
    depth: Stages = (2, 2, 2, 2),
    norm: Norm3d = "batch",
    stem: Stem = "imagenet",
    stem_stride: Stride = 2,
) -> ResNet:
    """ResNet-18 in 3D: width 64 gives 64, 128, 256, 512 channels and the 512-d encoder of the ISBI 2023 study.

    width: channels of the first stage. depth: blocks per stage, 1 to 4 stages. norm: batch | group | instance.
    stem: imagenet | small (``stem_3d``); stem_stride: stride of the first convolution.
    """
    return ResNet(in_channels, shape, ResNetBlock, width, depth, norm, stem, stem_stride)


def resnet50(
    in_channels: int,
    shape: Sequence[int] | None,
    *,
    width: Width = 64,
    depth: Stages = (3, 4, 6, 3),
    norm: Norm3d = "batch",
    stem: Stem = "imagenet",
    stem_stride: Stride = 2,
) -> ResNet:
    """ResNet-50 in 3D: bottleneck blocks, which leave with four times their width; 2048-d at width 64.

    The arguments are those of ``resnet18``.
    """
    return ResNet(in_channels, shape, ResNetBottleneck, width, depth, norm, stem, stem_stride)
