"""SimCLR: two augmented views of a scan attract, everybody else repels."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from medssl.checks import Count, Temperature, Units
from medssl.distributed import gather
from medssl.errors import RecipeError
from medssl.heads.mlp import MLP, Norm, behind
from medssl.losses.contrastive import nearest_is_positive, nt_xent_rows
from medssl.losses.pairs import tile, view_masks
from medssl.losses.rows import blockwise
from medssl.methods.base import Method
from medssl.types import Batch, Embed, Facts, Features, Joint, Progress, Rows, Step


class TwoView(Method):
    """Tell the two views of a scan from all other scans of the batch.

    Views: 2, independently augmented. Labels: none; ``subject`` keeps two scans of one person from repelling each
    other. State: none. Collapse: prevented by the other scans, so the batch must not be tiny (16 or more).
    Paper: Chen et al. 2020, arXiv 2002.05709 (SimCLR). 3D: batch 32 to 64 and Adam(W) instead of 4096 and LARS.

    temperature: 0.1 (paper 0.1 to 0.5). projector: hidden and output sizes behind the encoder ("width": as wide as
    it; paper: one such hidden layer, output 128). norm: batch | layer | group | none inside the projector.
    relatives: what other scans of the same person are: positive | ignore | negative. block: anchors whose
    similarities are held at once; by itself all in batches up to 512 rows, and beyond what fits.
    """

    joint: ClassVar[bool] = True

    def __init__(
        self,
        encoder: nn.Module,
        facts: Facts,
        *,
        temperature: Temperature = 0.1,
        projector: Units = ("width", 128),
        norm: Norm = "none",
        relatives: Literal["positive", "ignore", "negative"] = "ignore",
        block: Count | None = None,
    ) -> None:
        super().__init__(encoder, facts)
        if facts.batch < 2:
            raise RecipeError("simclr needs other scans to repel, but data.batch_size is 1; set it to 16 or more")
        self.projector = MLP(behind(self.width, projector), norm=norm)
        self.temperature, self.relatives, self.block = temperature, relatives, block
        self.spares_relatives = relatives != "negative"
        self.chance = math.log(2 * facts.batch - 1)

    def before_epoch(self, embed: Embed, progress: Progress) -> None:
        """Before the first step: spread the embeddings of the cohort."""
        if progress.step == 0:
            self.projector.calibrate_(embed(lambda x: self.encoder(x).pooled)[1])

    def compare(self, rows: Rows, batch: Batch, progress: Progress) -> Step:
        """NT-Xent over all views of the batch."""
        h_NE = rows[0].flatten(0, 1)
        z_ND = self.project(Features(h_NE))
        scan_N, subject_N = (tile(x, len(rows[0])) for x in (batch.index, batch.meta["subject"]))
        z_MD, scan_M, subject_M = gather(z_ND), gather(scan_N), gather(subject_N)

        def pairs(rows_b: Tensor) -> tuple[Tensor, Tensor]:
            own = scan_N[rows_b], scan_M, subject_N[rows_b], subject_M
            return view_masks(*own, relatives=self.relatives, rows_N=rows_b)

        loss, (found,) = blockwise(
            nt_xent_rows, z_ND, z_MD, pairs,
            temperature=self.temperature, block=self.block, also=(nearest_is_positive,),
        )  # fmt: skip
        loss, terms = self.regularised(loss, Joint(z_ND, batch, lambda: self.projector(h_NE)))
        return Step({"loss": loss}, {"pair_accuracy": found} | terms, {"z": z_ND.detach()})

    def project(self, features: Features) -> Tensor:
        """z (N, D), L2-normalised."""
        return F.normalize(self.projector(features.pooled), dim=1)
