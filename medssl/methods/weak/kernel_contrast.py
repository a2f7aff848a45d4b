"""y-aware, L_thr and L_exp: attraction and repulsion by how alike two labels are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from medssl.checks import Count, Interval, Temperature, Units
from medssl.distributed import gather, over_processes
from medssl.errors import RecipeError
from medssl.heads.mlp import MLP, Norm, behind
from medssl.kernels import Kernels, check_kernels, kernel_of
from medssl.losses.kernel import dropped_rows, effective_rows, exponential_rows, threshold_rows, y_aware_rows
from medssl.losses.pairs import label_order, labelled_pairs, tile
from medssl.losses.rows import WHOLE, RowLoss, blockwise, counting
from medssl.methods.base import Method
from medssl.types import Batch, Embed, Facts, Features, Joint, Progress, Rows, Step

_AGE = {"age": {"kernel": "rbf", "bandwidth": 5.0}}
_WHOLE = ("threshold", "isbi_code")  # the loss and variant that compare all rows at once


class KernelContrast(Method):
    """Scans attract each other as much as a kernel on their labels says.

    Views: 2. Labels: those named under ``kernels`` (default age); a missing label makes a scan attract only its own
    other view (``missing: self``) or leaves the scan out (``drop``). State: none. Collapse: prevented by repulsion,
    as in SimCLR. Papers: y-aware: Dufumier et al. 2021, arXiv 2106.08808; L_thr, L_exp: Barbano et al. 2023,
    arXiv 2211.08326. 3D: the papers are 3D; batch 32 to 64.

    loss: y_aware | threshold | exponential. kernels: column -> {kernel: rbf | gaussian | cauchy | box | delta |
    categorical, bandwidth: number in label units, scott or silverman}; several columns multiply. temperature: 0.1
    (papers). variant: slide | isbi_code | include_k (what the published code computes instead, with kernel gaussian;
    see the loss). norm: of L_thr, anchor | slide (which needs ratio_max, the limit of its weight ratios). projector:
    sizes behind the encoder ("width": as wide as it; papers: one such hidden layer, output 128). projector_norm,
    block: as in simclr.
    """

    joint: ClassVar[bool] = True

    def __init__(
        self,
        encoder: nn.Module,
        facts: Facts,
        *,
        loss: Literal["y_aware", "threshold", "exponential"],
        kernels: Kernels | None = None,
        temperature: Temperature = 0.1,
        variant: Literal["slide", "isbi_code", "include_k"] = "slide",
        norm: Literal["anchor", "slide"] = "anchor",
        ratio_max: Annotated[float, Interval(0.001, 1e9)] | None = None,
        missing: Literal["self", "drop"] = "self",
        projector: Units = ("width", 128),
        projector_norm: Norm = "none",
        block: Count | None = None,
    ) -> None:
        super().__init__(encoder, facts)
        if facts.batch < 2:
            raise RecipeError(f"{loss} compares scans, but data.batch_size is 1; set it to 16 or more")
        self.kernels = {c: kernel_of(c, k, facts) for c, k in (kernels or _AGE).items()}
        self.reads, self.temperature, self.missing = tuple(self.kernels), temperature, missing
        self.ordered, whole = loss == "threshold", (loss, variant) == _WHOLE
        self.loss, self.block = _loss(loss, variant, norm, ratio_max), WHOLE if whole else block
        dropped = {"thr_dropped": dropped_rows} if self.ordered and not whole else {}
        self.watched: dict[str, RowLoss] = {"effective_positives": effective_rows, **dropped}
        self.projector = MLP(behind(self.width, projector), norm=projector_norm)
        self.chance = math.log(2 * facts.batch - 1) if loss == "y_aware" else None

    @classmethod
    def refuse(cls, arguments: Mapping[str, Any]) -> None:
        """Refuse kernels that cannot be built, and a variant, norm or block that the loss does not have."""
        loss, variant, block = arguments["loss"], arguments["variant"], arguments["block"]
        check_kernels("method.kernels", arguments["kernels"])
        _loss(loss, variant, arguments["norm"], arguments["ratio_max"])
        if block and (loss, variant) == _WHOLE:
            raise RecipeError(f"method.block is {block}, but variant isbi_code compares all rows at once; remove block")

    def before_epoch(self, embed: Embed, progress: Progress) -> None:
        """Before the first step: spread the embeddings of the cohort."""
        if progress.step == 0:
            self.projector.calibrate_(embed(lambda x: self.encoder(x).pooled)[1])

    def compare(self, rows: Rows, batch: Batch, progress: Progress) -> Step:
        """The kernel loss over all views of the batch."""
        z_ND = self.project(Features(h_NE := rows[0].flatten(0, 1)))
        labels_N = {c: tile(batch.meta[c], len(rows[0])) for c in self.kernels}
        subject_N = tile(batch.meta["subject"], len(rows[0]))
        z_MD, subject_M, labels_M = gather(z_ND), gather(subject_N), {c: gather(y) for c, y in labels_N.items()}
        pairs = labelled_pairs(self.kernels, labels_N, labels_M, subject_N, subject_M, self.missing)
        (by_label, count), visit_N = counting(self.loss), label_order(self.kernels, labels_N, subject_N)
        if self.ordered:  # spares L_thr a sort per anchor
            by_label = partial(by_label, order_M=label_order(self.kernels, labels_M, subject_M))
        how: dict[str, Any] = {"temperature": self.temperature, "block": self.block, "visit_N": visit_N}
        loss, seen = blockwise(by_label, z_ND, z_MD, pairs, also=tuple(self.watched.values()), **how)
        loss, terms = self.regularised(over_processes(loss, count), Joint(z_ND, batch, lambda: self.projector(h_NE)))
        return Step({"loss": loss}, terms | dict(zip(self.watched, seen, strict=True)), {"z": z_ND.detach()})

    def project(self, features: Features) -> Tensor:
        """z (N, D), L2-normalised."""
        return F.normalize(self.projector(features.pooled), dim=1)


def _loss(name: str, variant: str, norm: str, ratio_max: float | None) -> RowLoss:
    if name == "y_aware":
        if variant != "slide":
            raise RecipeError(f"method.variant is '{variant}', but y_aware has no variants; leave it out")
        return y_aware_rows
    allowed = ("slide", "isbi_code") if name == "threshold" else ("slide", "include_k", "isbi_code")
    if variant not in allowed:
        raise RecipeError(f"method.variant is '{variant}', but {name} has {' and '.join(allowed)}; use one of them")
    if norm == "slide" and variant == "isbi_code":
        raise RecipeError("method.variant isbi_code divides by all weights of the anchor; leave method.norm at anchor")
    if name == "exponential":
        return partial(exponential_rows, variant=variant)  # type: ignore[arg-type]
    if norm == "slide" and ratio_max is None:
        raise RecipeError("method.norm is 'slide', whose divisors may vanish; set method.ratio_max (such as 100)")
    return partial(threshold_rows, norm=norm, variant=variant, ratio_max=ratio_max)  # type: ignore[arg-type]
