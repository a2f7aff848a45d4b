"""Heads on transformer tokens: random masking and the masked autoencoder's decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medssl.checks import Grid, check
from medssl.errors import RecipeError
from medssl.heads.blocks import TransformerBlock, init_transformer_, sincos_positions


def random_keep(noise_NT: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Which tokens stay visible: per scan the floor(T (1 - ratio)) tokens of the smallest noise.

    noise_NT: uniform numbers, drawn by the view maker. Returns keep_NL (int64 token indices, in order of rising
    noise) and mask_NT (True where a token is removed). A ratio that removes nothing or everything is an error,
    because the loss is a mean over the removed tokens (MAE, He 2022).

    >>> keep, mask = random_keep(torch.tensor([[0.9, 0.1, 0.5, 0.7]]), 0.5)
    >>> keep.tolist(), mask.tolist()
    ([[1, 2]], [[True, False, False, True]])
    """
    tokens = noise_NT.shape[1]
    kept = math.floor(tokens * (1 - ratio) + 1e-6)
    if not 0 < kept < tokens:
        raise RecipeError(
            f"mask ratio {ratio} keeps {kept} of {tokens} tokens, but at least one must stay and one must go; "
            f"choose a ratio from {1 / tokens:.3g} to {1 - 1 / tokens:.3g}"
        )
    keep_NL = noise_NT.argsort(dim=1, stable=True)[:, :kept]
    mask_NT = torch.ones_like(noise_NT, dtype=torch.bool).scatter(1, keep_NL, False)
    return keep_NL, mask_NT


class TokenDecoder(nn.Module):
    """The decoder of a masked autoencoder: sees the encoded visible tokens, predicts a vector for every token.

    dim: width E of the encoder's tokens. out: numbers per token (voxels of a patch times channels). grid: tokens
    along D, H, W. width, depth, heads: size of the decoder; width divisible by 6 (paper: 8 blocks of 512; 3D
    default 4 blocks of 384). Source: He 2022, Masked Autoencoders Are Scalable Vision Learners, section 3.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        grid: Sequence[int],
        width: int = 384,
        depth: int = 4,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.grid = check("grid", grid, Grid, RecipeError)
        self.n_tokens = math.prod(self.grid)
        self.register_buffer("position_TE", sincos_positions(self.grid, width), persistent=False)
        self.embed = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, mlp_ratio, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, out)
        init_transformer_(self)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, tokens_NLE: Tensor, keep_NL: Tensor) -> Tensor:
        """Visible tokens (N, L, E) and their indices keep_NL -> predictions (N, T, out) of all T tokens."""
        if keep_NL.shape != tokens_NLE.shape[:2]:
            raise RecipeError(
                f"the decoder got {tuple(tokens_NLE.shape[:2])} tokens but indices of shape {tuple(keep_NL.shape)}"
            )
        seen = self.embed(tokens_NLE)
        full = self.mask_token.to(seen.dtype).expand(seen.shape[0], self.n_tokens, -1)
        where = keep_NL.unsqueeze(-1).expand_as(seen)
        full = full.scatter(1, where, seen) + self.get_buffer("position_TE").to(seen.dtype)
        return self.out(self.norm(self.blocks(full)))
