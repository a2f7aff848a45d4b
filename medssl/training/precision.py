"""bfloat16 on a CPU without the convolutions that oneDNN computes wrongly."""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn


def guard_convolutions_(module: nn.Module) -> nn.Module:
    """Let shallow padded 3D convolutions of ``module`` run in float32 under bfloat16 autocast on a CPU.

    Where the first axis of a volume is not longer than the kernel reaches, the weight gradient of oneDNN's bfloat16
    convolution reads memory that nobody wrote (torch 2.13 on a CPU with avx512_bf16: NaN or wrong finite numbers for
    a 3^3 kernel on a 2^3 volume, the last stage of a ResNet on 64^3 scans). Those layers hold almost no voxels, so
    single precision costs little there. Changes no parameter and no state; on a GPU and without autocast nothing
    happens. Returns ``module``.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            part._conv_forward = MethodType(_convolve, part)  # type: ignore[method-assign]
        elif isinstance(part, nn.ConvTranspose3d):
            part.forward = MethodType(_convolve_back, part)  # type: ignore[method-assign]
    return module


def _convolve(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``nn.Conv3d._conv_forward``, in float32 where a bfloat16 gradient would be wrong."""
    depth = (x.shape[2] + 2 * _padding(self) - self.kernel_size[0]) // self.stride[0] + 1
    if not _is_shallow(self, x, min(x.shape[2], depth)):
        return nn.Conv3d._conv_forward(self, x, weight, bias)
    with torch.autocast("cpu", enabled=False):
        single = None if bias is None else bias.float()
        return nn.Conv3d._conv_forward(self, x.float(), weight.float(), single)


def _convolve_back(self: nn.ConvTranspose3d, x: Tensor, output_size: list[int] | None = None) -> Tensor:
    """``nn.ConvTranspose3d.forward``, in float32 where a bfloat16 gradient would be wrong."""
    depth = (x.shape[2] - 1) * self.stride[0] - 2 * _padding(self) + self.kernel_size[0]
    if not _is_shallow(self, x, min(x.shape[2], depth)):
        return nn.ConvTranspose3d.forward(self, x, output_size)
    with torch.autocast("cpu", enabled=False):
        return nn.ConvTranspose3d.forward(self, x.float(), output_size)


def _padding(layer: nn.Conv3d | nn.ConvTranspose3d) -> int:
    return layer.kernel_size[0] // 2 if isinstance(layer.padding, str) else int(layer.padding[0])


def _is_shallow(layer: nn.Conv3d | nn.ConvTranspose3d, x: Tensor, depth: int) -> bool:
    """Whether this layer, on this input, is one of those that go wrong (a grid of sizes showed where they end)."""
    rough = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return rough and _padding(layer) > 0 and depth < layer.kernel_size[0] + layer.stride[0]
