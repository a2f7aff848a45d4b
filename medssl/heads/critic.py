"""The critic of adversarial methods: says whether a pair (volume, latent) is the encoder's or the generator's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.checks import Grid, check
from medssl.errors import RecipeError


def spectral(weight: Tensor) -> Tensor:
    """The weight divided by its largest singular value, as a matrix (out, rest): Miyato 2018, eq. 8.

    The value is exact, the root of the largest eigenvalue of the small Gram matrix, instead of the paper's power
    iteration: no vector has to be remembered, so a forward pass changes no buffer and a resumed run is the same.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        sigma = torch.linalg.eigvalsh(gram.nan_to_num())[-1].clamp_min(1e-12).sqrt()  # NaN stays in the weight
        return (weight / sigma).to(weight.dtype)


class SpectralConv3d(nn.Conv3d):
    """A 3D convolution whose weight matrix has spectral norm 1."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv3d``."""
        return self._conv_forward(x, spectral(self.weight), self.bias)


class SpectralLinear(nn.Linear):
    """A linear layer of spectral norm 1."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Linear``."""
        return F.linear(x, spectral(self.weight), self.bias)


class Critic(nn.Module):
    """D(x, z): logits, large for the pair (scan, E(scan)) (ALI, Dumoulin 2017; BiGAN, Donahue 2017).

    Strided 4^3 convolutions on x (channels width, 2 width, ... up to 8 width) and a layer on z meet in a
    perceptron of ``hidden`` units. Leaky ReLU 0.2, spectral norm everywhere, no batch norm, so that the judgement
    on one pair does not depend on the others. latent=0: a critic of x alone. dropout: before the last layer
    (ALI uses 0.2 to 0.5 in D). Give logits to softplus losses; there is no sigmoid here.
    """

    def __init__(
        self,
        channels: int,
        shape: Sequence[int],
        latent: int,
        width: int = 32,
        hidden: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels, self.latent = channels, latent
        self.shape = check("shape", shape, Grid, RecipeError)
        if min(self.shape) < 4:
            raise RecipeError(f"a critic needs volumes of at least 4 voxels a side, but shape is {list(self.shape)}")
        count = min(4, int(math.log2(min(self.shape))) - 1)
        sizes = (self.channels, *(width * 2**k for k in range(count)))
        convs: list[nn.Module] = []
        for a, b in pairwise(sizes):
            convs += [SpectralConv3d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.convs = nn.Sequential(*convs)
        flat = sizes[-1] * math.prod(s // 2**count for s in self.shape)
        self.from_x = SpectralLinear(flat, hidden)
        self.from_z = SpectralLinear(self.latent, hidden) if self.latent else None
        self.joint = nn.Sequential(
            nn.LeakyReLU(0.2),
            SpectralLinear(hidden * (2 if self.latent else 1), hidden),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            SpectralLinear(hidden, 1),
        )

    def forward(self, x: Tensor, z_NL: Tensor | None = None) -> Tensor:
        """x (N, C, D, H, W) and z (N, latent) -> logits (N,)."""
        if x.ndim != 5 or tuple(x.shape[1:]) != (self.channels, *self.shape):
            raise RecipeError(
                f"the critic expects volumes (N, {self.channels}, {', '.join(map(str, self.shape))}), "
                f"but got {tuple(x.shape)}"
            )
        h = self.from_x(self.convs(x).flatten(1))
        if self.from_z is not None:
            if z_NL is None or z_NL.ndim != 2 or z_NL.shape[1] != self.latent:
                given = None if z_NL is None else tuple(z_NL.shape)
                raise RecipeError(f"the critic expects latents (N, {self.latent}), but got {given}")
            h = torch.cat([h, self.from_z(z_NL)], 1)
        return self.joint(h).squeeze(1)
