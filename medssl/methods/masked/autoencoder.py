"""MAE: see a quarter of the patches, paint the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from medssl.checks import Depth, Flag, Heads, Part, Width
from medssl.errors import RecipeError
from medssl.heads.tokens import TokenDecoder, random_keep
from medssl.losses.reconstruct import masked_patch_mse
from medssl.methods.base import Method
from medssl.types import Batch, Facts, Progress, Step


class MaskedAutoencoder(Method):
    """Predict the hidden patches of a scan from the visible ones.

    Views: 1; the view maker draws which patches are hidden ("token_noise"). Labels: none. State: none. Collapse:
    not possible (the target is the scan). Paper: He et al. 2022, arXiv 2111.06377 (MAE). 3D: patches of 8 or 16
    voxels a side, a decoder of 4 blocks of width 384 (divisible by 6 for 3D sin-cos positions), ratio 0.6 to 0.75.

    ratio: share of hidden patches (paper 0.75). norm_pix: predict patches standardised by their own mean and
    (unbiased) variance. decoder_width, decoder_depth, decoder_heads: of the decoder that is thrown away (paper 512,
    8, 16).
    """

    views: ClassVar[int] = 1
    needs: ClassVar[str] = "tokens"

    def __init__(
        self,
        encoder: nn.Module,
        facts: Facts,
        *,
        ratio: Part = 0.75,
        norm_pix: Flag = False,
        decoder_width: Width = 384,
        decoder_depth: Depth = 4,
        decoder_heads: Heads = 6,
    ) -> None:
        super().__init__(encoder, facts)
        tokens, patch = int(encoder.n_tokens), tuple(encoder.patch)  # type: ignore[arg-type]
        if not 0 < int(tokens * (1 - ratio)) < tokens:
            raise RecipeError(f"method.ratio {ratio} hides none or all of {tokens} patches; use a share such as 0.75")
        self.ratio, self.norm_pix = ratio, norm_pix
        self.wants = {"token_noise": (tokens,)}
        voxels = patch[0] * patch[1] * patch[2] * facts.shape[0]
        self.decoder = TokenDecoder(
            self.width,
            voxels,
            tuple(encoder.grid),  # type: ignore[arg-type]
            width=decoder_width,
            depth=decoder_depth,
            heads=decoder_heads,
        )

    @classmethod
    def refuse(cls, arguments: Mapping[str, Any]) -> None:
        """Refuse a decoder whose width does not suit its positions and heads."""
        width, heads = arguments["decoder_width"], arguments["decoder_heads"]
        if width % 6 or width % heads:
            step = math.lcm(6, heads)
            raise RecipeError(
                f"method.decoder_width is {width} and method.decoder_heads is {heads}, but the width must be divisible "
                f"by 6 (positions along three axes) and by the heads; use a multiple of {step}"
            )

    def step(self, batch: Batch, progress: Progress) -> Step:
        """Mean squared error over hidden patches."""
        (x,) = batch.views
        keep_NL, mask_NT = random_keep(batch.target["token_noise"], self.ratio)
        features = self.encoder(x, keep_NL=keep_NL)
        predicted_NTP = self.decoder(features.tokens, keep_NL)
        target_NTP = self.encoder.patchify(x)  # type: ignore[operator]
        loss = masked_patch_mse(predicted_NTP, target_NTP, mask_NT, norm_pix=self.norm_pix)
        mean_NTP = target_NTP.mean(2, keepdim=True).expand_as(target_NTP)
        log = {"patch_mean_mse": masked_patch_mse(mean_NTP, target_NTP, mask_NT, norm_pix=self.norm_pix).detach()}
        return Step({"loss": loss}, log, {"z": features.pooled.detach()})
