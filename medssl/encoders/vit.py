"""Vision transformer on 3D patches (Dosovitskiy 2021), with the token dropping of masked autoencoders (He 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from medssl.checks import Depth, Flag, Grid, Heads, Interval, Share, Voxels, Width, check
from medssl.encoders.base import Encoder
from medssl.errors import RecipeError
from medssl.heads.blocks import TransformerBlock, init_transformer_, sincos_positions
from medssl.types import Features


class ViT(Encoder):
    """Patches -> linear embedding + fixed sine-cosine positions -> pre-norm blocks -> layer norm; see ``vit``.

    patch, grid: three numbers each; n_tokens: T = product of grid. Tokens run in (d, h, w) order.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        in_channels: int,
        shape: Sequence[int] | None,
        width: int,
        depth: int,
        heads: int,
        patch: tuple[int, int, int],
        mlp_ratio: float,
        cls: bool,
        mask_token: bool,
        dropout: float,
    ) -> None:
        if shape is None:
            raise RecipeError("encoder vit needs shape: [D, H, W], the size of its input in voxels")
        if width % 6 or width % heads:
            raise RecipeError(
                f"encoder.width is {width} and encoder.heads is {heads}, but the width must be divisible by 6 "
                f"(positions along three axes) and by the heads; use a multiple of {math.lcm(6, heads)}"
            )
        super().__init__(in_channels, width, None, smallest=patch)
        self.patch = tuple(patch)
        self.grid = self._grid(check("shape", shape, Grid, RecipeError))
        self.n_tokens = math.prod(self.grid)
        self.register_buffer("position_TE", sincos_positions(self.grid, width), persistent=False)
        self.embed = nn.Linear(in_channels * math.prod(self.patch), width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        init_transformer_(self)
        self.cls = nn.Parameter(torch.randn(width) * 0.02) if cls else None
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02) if mask_token else None

    def accept(self, shape: Sequence[int]) -> None:
        """RecipeError where patches do not divide a volume of this size; names the padded size that they divide."""
        super().accept(shape)
        self._grid(shape)

    def _grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Tokens along each axis; RecipeError names the padded shape where the patch does not divide it."""
        if any(s % p for s, p in zip(shape, self.patch, strict=True)):
            padded = tuple(-(-s // p) * p for s, p in zip(shape, self.patch, strict=True))
            raise RecipeError(
                f"encoder.patch is {self.patch}, but volumes of {tuple(shape)} voxels cannot be cut into such patches; "
                f"pad them to {padded} (data.preprocessing.shape), or choose another patch"
            )
        return tuple(s // p for s, p in zip(shape, self.patch, strict=True))

    def patchify(self, x: Tensor) -> Tensor:
        """Volumes (N, C, D, H, W) -> patches (N, T, p^3 C), voxels first (d, h, w), channels last."""
        self.check(x)
        (d, h, w), (p, q, r) = self._grid(x.shape[2:]), self.patch
        cut = x.reshape(x.shape[0], x.shape[1], d, p, h, q, w, r)
        return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(x.shape[0], d * h * w, -1)

    def unpatchify(self, patches_NTP: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """The inverse of ``patchify``; grid where it is not the encoder's own."""
        (d, h, w), (p, q, r) = self.grid if grid is None else grid, self.patch
        cut = patches_NTP.reshape(patches_NTP.shape[0], d, h, w, p, q, r, -1)
        return cut.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(cut.shape[0], -1, d * p, h * q, w * r)

    def _positions(self, grid: tuple[int, ...]) -> Tensor:
        own = self.get_buffer("position_TE")
        return own if grid == self.grid else sincos_positions(grid, self.dim, self.grid).to(own)

    def _embed(self, x: Tensor, keep_NL: Tensor | None, mask_NT: Tensor | None) -> Tensor:
        """Tokens before the first block, the class token first where there is one."""
        patches = self.patchify(x)
        positions = self._positions(self._grid(x.shape[2:])).unsqueeze(0)
        if keep_NL is not None:
            patches = patches.gather(1, keep_NL.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
            where = keep_NL.unsqueeze(-1).expand(-1, -1, self.dim)
            positions = positions.expand(x.shape[0], -1, -1).gather(1, where)
        tokens = self.embed(patches)
        if mask_NT is not None:
            if self.mask_token is None:
                raise RecipeError("encoder vit was built without a mask token; set mask_token: true in its arguments")
            hidden = mask_NT if keep_NL is None else mask_NT.gather(1, keep_NL)
            tokens = torch.where(hidden.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + positions.to(tokens.dtype)
        if self.cls is None:
            return tokens
        return torch.cat([self.cls.to(tokens.dtype).expand(x.shape[0], 1, -1), tokens], 1)

    def forward(self, x: Tensor, keep_NL: Tensor | None = None, mask_NT: Tensor | None = None) -> Features:
        """(N, C, D, H, W) -> pooled (N, E) and tokens (N, T or L, E), without the class token.

        keep_NL: int64 indices of the tokens that are seen; the others are never computed. mask_NT: True where a
        patch is replaced by the learned mask token (its position stays). Other sizes than ``shape`` are allowed:
        positions are stretched to the same extent.
        """
        tokens = self._embed(x, keep_NL, mask_NT)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        if self.cls is None:
            return Features(tokens.mean(1), tokens=tokens)
        return Features(tokens[:, 0], tokens=tokens[:, 1:])

    @torch.no_grad()
    def attention(self, x: Tensor) -> Tensor:
        """Attention weights of the last block (N, heads, T, T), the class token first where there is one."""
        tokens = self._embed(x, None, None)
        *before, last = [block for block in self.blocks if isinstance(block, TransformerBlock)]
        for block in before:
            tokens = block(tokens)
        return last.attention.weights(last.norm1(tokens))


def vit(
    in_channels: int,
    shape: Sequence[int] | None,
    *,
    width: Width = 384,
    depth: Depth = 12,
    heads: Heads = 6,
    patch: Voxels = 16,  # type: ignore[assignment]  # build_encoder makes three of one
    mlp_ratio: Annotated[float, Interval(0, 16, above=True)] = 4.0,
    cls: Flag = False,
    mask_token: Flag = False,
    dropout: Share = 0.0,
) -> ViT:
    """ViT-small in 3D by default. shape must be divisible by patch (VBM 121x145x121: pad to 128x160x128).

    width: size E of a token, divisible by 6 (positions) and by heads. depth: blocks. mlp_ratio: hidden size of a
    block's perceptron over width. cls: pooled is a learned class token instead of the mean of the tokens.
    mask_token: learn a token that stands for masked patches (SimMIM, iBOT); off, so that no parameter is idle.
    Linear layers start Xavier-uniform, biases 0, learned tokens N(0, 0.02) (as MAE).
    """
    return ViT(in_channels, shape, width, depth, heads, patch, mlp_ratio, cls, mask_token, dropout)
