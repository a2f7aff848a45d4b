"""From a vector back to a volume: the decoder of autoencoders and the generator of adversarial methods."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from medssl.checks import Grid, check
from medssl.errors import RecipeError
from medssl.heads.blocks import VoxelNorm, norm_3d


def halvings(shape: Sequence[int], floor: int = 3, most: int = 5) -> int:
    """How often a volume can be halved (rounding up) with every side at least ``floor``, at most ``most`` times."""
    count = 0
    while count < most and min(math.ceil(s / 2 ** (count + 1)) for s in shape) >= floor:
        count += 1
    return count


class _Up(nn.Module):
    """Double the grid, crop to ``size``, convolve, normalise, activate."""

    def __init__(self, inp: int, out: int, size: tuple[int, ...], transposed: bool, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.size, self.transposed = size, transposed
        self.conv: nn.Module
        if transposed:
            self.conv = nn.ConvTranspose3d(inp, out, 4, stride=2, padding=1, bias=bias)
        else:
            self.conv = nn.Conv3d(inp, out, 3, padding=1, bias=bias)
        self.norm = norm_3d(norm, out)

    def forward(self, x: Tensor) -> Tensor:
        d, h, w = self.size
        if self.transposed:
            x = self.conv(x)[:, :, :d, :h, :w]
        else:
            x = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, :d, :h, :w])
        return F.relu(self.norm(x))


class ConvDecoder(nn.Module):
    """A vector (N, dim) to a volume (N, out_channels, D, H, W) of any shape.

    A linear layer fills a coarse grid of ceil(shape / 2^levels), then every level doubles it, crops the one voxel
    that a rounded-up side has too much, and convolves. transposed: learned up-sampling (ConvTranspose 4^3, stride
    2) instead of nearest-neighbour and a 3^3 convolution; the latter draws no checkerboard (Odena 2016).

    width: channels of the finest level, doubled at each coarser one up to 8 x width. levels: how often the
    shape is halved; default as often as every side stays at least 3 (at most 5). norm: group | batch | instance |
    none. The output is linear (z-scored intensities have no bounds). Convolutions start kaiming-normal (fan-in).
    """

    def __init__(
        self,
        dim: int,
        out_channels: int,
        shape: Sequence[int],
        width: int = 16,
        levels: int | None = None,
        transposed: bool = False,
        norm: str = "group",
    ) -> None:
        super().__init__()
        self.shape = check("shape", shape, Grid, RecipeError)
        check("norm", norm, VoxelNorm, RecipeError)
        count = halvings(self.shape) if levels is None else levels
        sizes = [tuple(math.ceil(s / 2**k) for s in self.shape) for k in range(count, -1, -1)]
        if norm == "instance" and min(math.prod(s) for s in sizes) < 2:
            raise RecipeError(f"norm='instance' needs more than one voxel; use group or fewer levels than {count}")
        widths = [width * 2 ** min(k, 3) for k in range(count, -1, -1)]
        self.dim = dim
        self.start = (widths[0], *sizes[0])
        self.fill = nn.Linear(dim, math.prod(self.start))
        self.norm = norm_3d(norm, widths[0])
        self.up = nn.Sequential(*(_Up(widths[k], widths[k + 1], sizes[k + 1], transposed, norm) for k in range(count)))
        self.out = nn.Conv3d(widths[-1], out_channels, 3, padding=1)
        for m in self.modules():
            if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d)) and m is not self.out:
                nn.init.kaiming_normal_(m.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, h_NE: Tensor) -> Tensor:
        """(N, dim) -> (N, out_channels, D, H, W)."""
        if h_NE.ndim != 2 or h_NE.shape[1] != self.dim:
            raise RecipeError(f"the decoder expects vectors (N, {self.dim}), but got {tuple(h_NE.shape)}")
        x = F.relu(self.norm(self.fill(h_NE).unflatten(1, self.start)))
        return self.out(self.up(x))


class Generator(nn.Module):
    """G(z): a latent (N, latent) to a volume (N, channels, D, H, W), in the manner of DCGAN (Radford 2016).

    Transposed convolutions 4^3 of stride 2, ReLU, weights N(0, 0.02). Two things differ from the paper: group norm
    by default (3D batches are small; ``norm="batch"`` is the paper's), and a linear output instead of tanh.
    """

    def __init__(self, latent: int, channels: int, shape: Sequence[int], width: int = 32, norm: str = "group") -> None:
        super().__init__()
        self.latent = latent
        self.decoder = ConvDecoder(latent, channels, shape, width=width, transposed=True, norm=norm)
        for m in self.decoder.modules():
            if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)):
                nn.init.normal_(m.weight, std=0.02)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    def forward(self, z_NL: Tensor) -> Tensor:
        """(N, latent) -> (N, channels, D, H, W)."""
        return self.decoder(z_NL)
