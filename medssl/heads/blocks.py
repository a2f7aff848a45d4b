"""Small parts that heads and encoders share: the choice of a norm, transformer blocks, positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.checks import check
from medssl.errors import RecipeError

Norm3d = Literal["batch", "group", "instance"]
VoxelNorm = Literal["batch", "group", "instance", "none"]


def groups_of(*channels: int) -> int:
    """Groups for group norm: the most of 8, 4, 2, 1 that divide all channel counts into parts of 4 or more.

    Smaller parts would let a map of one voxel be normalised to a constant.
    """
    for groups in (8, 4, 2):
        if all(c % groups == 0 and c // groups >= 4 for c in channels):
            return groups
    return 1


def norm_3d(kind: str, channels: int) -> nn.Module:
    """Norm of (N, C, D, H, W): batch | group (see ``groups_of``) | instance (both per scan) | none."""
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    if kind == "group":
        return nn.GroupNorm(groups_of(channels), channels)
    if kind == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    check("norm", kind, VoxelNorm, RecipeError)
    return nn.Identity()


def sincos_positions(grid: Sequence[int], dim: int, reference: Sequence[int] | None = None) -> Tensor:
    """Fixed sine-cosine embedding of a 3D grid of tokens, (T, dim) float32, tokens in (d, h, w) order.

    A sixth of ``dim`` carries the sine and a sixth the cosine of each axis, at wavelengths from 2 pi to
    10000 * 2 pi tokens (Vaswani 2017; MAE, He 2022, with a third axis). Positions are token indices of the
    ``reference`` grid (default: ``grid`` itself); another grid is stretched over the same extent, token centres
    on token centres, which is what interpolating a position table does (DINO, Caron 2021).
    """
    if dim % 6:
        raise RecipeError(
            f"3D sine-cosine positions need a width divisible by 6, but it is {dim}; "
            f"use {dim // 6 * 6 or 6} or {dim // 6 * 6 + 6}"
        )
    extent = tuple(grid) if reference is None else tuple(reference)
    sixth = dim // 6
    rate = 10000.0 ** (-torch.arange(sixth, dtype=torch.float64) / sixth)
    axes = [(torch.arange(g, dtype=torch.float64) + 0.5) * (r / g) - 0.5 for g, r in zip(grid, extent, strict=True)]
    where_T3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    phase = where_T3[:, :, None] * rate
    return torch.cat([phase.sin(), phase.cos()], -1).flatten(1).float()


class Attention(nn.Module):
    """Multi-head self-attention over tokens (N, T, E) -> (N, T, E)."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise RecipeError(f"heads={heads} does not divide the token width {dim}; choose a divisor of {dim}")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def _split(self, x_NTE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x_NTE).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def forward(self, x_NTE: Tensor) -> Tensor:
        """Every token looks at every token."""
        q, k, v = self._split(x_NTE)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(out.transpose(1, 2).flatten(2))

    def weights(self, x_NTE: Tensor) -> Tensor:
        """Attention weights (N, heads, T, T); rows sum to 1. Forms the whole matrix: for looking, not training."""
        q, k, _ = self._split(x_NTE)
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block (Dosovitskiy 2021): x + attention(norm(x)), then x + mlp(norm(x)).

    Plain torch instead of MONAI's block of the same name: that one needs the optional package einops, holds a
    cross-attention norm that is never used, and keeps dropout on at evaluation in its fused attention.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = max(1, round(dim * mlp_ratio))
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
        self.drop = nn.Dropout(dropout)

    def forward(self, x_NTE: Tensor) -> Tensor:
        """Tokens (N, T, E) -> (N, T, E)."""
        x_NTE = x_NTE + self.drop(self.attention(self.norm1(x_NTE)))
        return x_NTE + self.drop(self.mlp(self.norm2(x_NTE)))


def init_transformer_(module: nn.Module) -> None:
    """Xavier-uniform linear weights and zero biases, as in MAE (He 2022)."""
    for m in module.modules():
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
