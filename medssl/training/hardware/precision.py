"""bfloat16 on a CPU: layers that oneDNN computes wrongly or slowly, computed in another way with the same result."""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ROWS = 4  # an unfolded input may hold at most so many times the numbers of the layer's weight


def guard_convolutions_(module: nn.Module) -> nn.Module:
    """Mend the 3D convolutions and max-poolings of ``module`` for bfloat16 autocast on a CPU.

    Shallow padded convolutions: where the first axis of a volume is not longer than the kernel reaches, the weight
    gradient of oneDNN's bfloat16 convolution reads memory that nobody wrote (torch 2.13 on a CPU with avx512_bf16:
    NaN or wrong finite numbers for a 3^3 kernel on a 2^3 volume, the last stage of a ResNet on 64^3 scans). They
    become one matrix product of the unfolded input, which is also three times as fast there; where that would take
    much memory (wide volumes, large batches), and for transposed convolutions, they run in float32.
    Stems: a strided convolution of a few channels becomes one of stride 1 on 2^3 times as many channels, last in
    memory, and so leaves its output. Max-pooling: autocast would copy its input to float32 for the same maxima.
    Changes no parameter and no state; on a GPU and without autocast nothing happens. Returns ``module``.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            part._conv_forward = MethodType(_convolve, part)  # type: ignore[method-assign]
        elif isinstance(part, nn.ConvTranspose3d):
            part.forward = MethodType(_convolve_back, part)  # type: ignore[method-assign]
        elif isinstance(part, nn.MaxPool3d):
            part.forward = MethodType(_pool, part)  # type: ignore[method-assign]
    return module


def _convolve(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``nn.Conv3d._conv_forward``, by another way where bfloat16's would be wrong or slow."""
    if not _is_rough(x):
        return nn.Conv3d._conv_forward(self, x, weight, bias)
    depth = (x.shape[2] + 2 * _padding(self) - self.kernel_size[0]) // self.stride[0] + 1
    if _is_stem(self, x):
        return _by_blocks(self, x, weight, bias)
    if not _is_shallow(self, min(x.shape[2], depth)):
        return nn.Conv3d._conv_forward(self, x, weight, bias)
    if _is_plain(self) and x.shape[0] * x[0, 0].numel() <= _ROWS * self.out_channels:
        return _by_matrix(self, x, weight, bias)
    with torch.autocast("cpu", enabled=False):
        single = None if bias is None else bias.float()
        return nn.Conv3d._conv_forward(self, x.float(), weight.float(), single)


def _convolve_back(self: nn.ConvTranspose3d, x: Tensor, output_size: list[int] | None = None) -> Tensor:
    """``nn.ConvTranspose3d.forward``, in float32 where a bfloat16 gradient would be wrong."""
    depth = (x.shape[2] - 1) * self.stride[0] - 2 * _padding(self) + self.kernel_size[0]
    if not (_is_rough(x) and _is_shallow(self, min(x.shape[2], depth))):
        return nn.ConvTranspose3d.forward(self, x, output_size)
    with torch.autocast("cpu", enabled=False):
        return nn.ConvTranspose3d.forward(self, x.float(), output_size)


def _pool(self: nn.MaxPool3d, x: Tensor) -> Tensor:
    """``nn.MaxPool3d.forward`` in the precision of its input: a maximum rounds nothing."""
    if not _is_rough(x):
        return nn.MaxPool3d.forward(self, x)
    with torch.autocast("cpu", enabled=False):
        return nn.MaxPool3d.forward(self, x)


def _by_matrix(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution as a product of patches (N d h w, C k^3) and weights (O, C k^3)."""
    x = F.pad(x, [pad for pad in reversed(_paddings(self)) for _ in range(2)])
    for axis, (size, step) in enumerate(zip(self.kernel_size, self.stride, strict=True)):
        x = x.unfold(2 + axis, size, step)
    n, _, d, h, w = x.shape[:5]
    patches = x.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(n * d * h * w, -1)
    out: Tensor = F.linear(patches, weight.flatten(1), bias).view(n, d, h, w, -1)
    return out.permute(0, 4, 1, 2, 3)  # channels last, as the stem leaves them


def _by_blocks(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of stride 2 as one of stride 1 on blocks of 2^3 voxels, each a voxel of 2^3 C channels."""
    ends: list[int] = []  # zeros around the volume, last axis first
    taps: list[int] = []  # zeros around the kernel, so that it starts at a block and fills blocks
    for size, voxels, pad in reversed(list(zip(self.kernel_size, x.shape[2:], _paddings(self), strict=True))):
        front = pad % 2
        back = (size + front) % 2
        length = (voxels + 2 * pad - size) // 2 + (size + front + back) // 2
        ends += [pad + front, 2 * length - voxels - pad - front]
        taps += [front, back]
    return F.conv3d(_blocks(F.pad(x, ends)), _blocks(F.pad(weight, taps)), bias)


def _blocks(x: Tensor) -> Tensor:
    """(N, C, D, H, W) of even sizes -> (N, 2^3 C, D/2, H/2, W/2), channels last in memory."""
    n, c, d, h, w = x.shape
    cut = x.reshape(n, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return cut.reshape(n, d // 2, h // 2, w // 2, 8 * c).permute(0, 4, 1, 2, 3)


def _paddings(layer: nn.Conv3d) -> tuple[int, ...]:
    """Zeros on either side of each axis (of odd kernels where the padding is "same")."""
    if layer.padding == "valid":
        return (0, 0, 0)
    return tuple(k // 2 for k in layer.kernel_size) if isinstance(layer.padding, str) else tuple(layer.padding)


def _padding(layer: nn.Conv3d | nn.ConvTranspose3d) -> int:
    return layer.kernel_size[0] // 2 if isinstance(layer.padding, str) else int(layer.padding[0])


def _is_rough(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def _is_plain(layer: nn.Conv3d) -> bool:
    """Neither groups nor dilation nor mirrored borders, and padded alike on both sides."""
    even = isinstance(layer.padding, str) and layer.padding != "valid" and any(k % 2 == 0 for k in layer.kernel_size)
    return layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros" and not even


def _is_stem(layer: nn.Conv3d, x: Tensor) -> bool:
    """One or two channels to 64 or more, a large kernel, stride 2: what oneDNN computes far below its speed."""
    few = layer.in_channels <= 2 and layer.out_channels >= 64
    steep = min(layer.kernel_size) >= 5 and set(layer.stride) == {2}
    return (
        few and steep and _is_plain(layer) and all(s >= k for s, k in zip(x.shape[2:], layer.kernel_size, strict=True))
    )


def _is_shallow(layer: nn.Conv3d | nn.ConvTranspose3d, depth: int) -> bool:
    """Whether this layer, on this depth, is one of those that go wrong (a grid of sizes showed where they end)."""
    return _padding(layer) > 0 and depth < layer.kernel_size[0] + layer.stride[0]
