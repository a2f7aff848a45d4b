"""Terms on pairs of rows: FairKL, alignment, uniformity. They see the rows of all processes."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from medssl.checks import Column, Flag, Interval, Small, Weight, nearest
from medssl.distributed import gather
from medssl.errors import RecipeError
from medssl.losses.fair import fair_kl
from medssl.losses.pairs import cosine, label_weights, same, tile
from medssl.losses.uniformity import alignment, uniformity
from medssl.methods.base import Method
from medssl.types import Facts, Joint

Power = Annotated[float, Interval(0.5, 8)]
Sharpness = Annotated[float, Interval(0, 100, above=True)]
_once = partial(torch.triu, diagonal=1)  # every pair once


class FairKL:
    """Pairs of one site are as alike as pairs of two sites, given how much they are one class.

    column: what must not be known (site). form: kl | moments; kappa: weight of the spreads (moments); eps: added to
    variances. The class of a pair is what the kernels of the loss say (y_aware, threshold, exponential); other
    methods have none, so all their pairs are negatives. Pairs of one person, of an unknown site or without a common
    label take no part. A batch needs pairs within and between sites: set data.balance to the same column.
    """

    def __init__(
        self,
        method: Method,
        facts: Facts,
        *,
        column: Column = "site",
        form: Literal["kl", "moments"] = "kl",
        kappa: Weight = 1.0,
        eps: Small = 1e-4,
    ) -> None:
        if column not in facts.labels:
            hint = nearest(column, facts.labels)
            raise RecipeError(f"fair_kl reads the column '{column}', but the manifest has no such column; {hint}")
        values = facts.labels[column]
        if len(set(values[values == values].tolist())) < 2:
            raise RecipeError(
                f"fair_kl compares values of '{column}', but the training rows hold fewer than two; leave fair_kl out"
            )
        self.name, self.reads = f"fair_kl_{column}", (column,)
        self.column, self.form, self.kappa, self.eps = column, form, kappa, eps

    def __call__(self, method: Method, joint: Joint) -> Tensor:
        """The term on cosines of z."""
        z_MD, bias_M, subject_M = (gather(x) for x in (joint.z_ND, joint.rows(self.column), joint.rows("subject")))
        known_M = bias_M == bias_M if bias_M.is_floating_point() else bias_M >= 0
        w_MM, labelled_MM = _classes(method, joint)
        own_MM = same(subject_M, subject_M)
        valid_MM = _once(labelled_MM & known_M[:, None] & known_M[None, :] & ~own_MM)
        sim_MM, bias_MM = cosine(z_MD, z_MD, 1.0), same(bias_M, bias_M)
        return fair_kl(sim_MM, w_MM, bias_MM, valid_MM, form=self.form, kappa=self.kappa, eps=self.eps)


class Alignment:
    """Views of a scan lie close. alpha: power of the distance; conditional: all pairs, weighted by the kernels."""

    name = "alignment"
    reads: tuple[str, ...] = ()

    def __init__(self, method: Method, facts: Facts, *, alpha: Power = 2.0, conditional: Flag = False) -> None:
        self.alpha, self.conditional = alpha, _conditional(self.name, method, conditional)

    def __call__(self, method: Method, joint: Joint) -> Tensor:
        """The term on squared distances of z."""
        sq_MM, scan_M = _squares(joint), gather(tile(joint.batch.index, joint.views))
        own_MM = same(scan_M, scan_M)
        w_MM = _classes(method, joint)[0] if self.conditional else own_MM.to(sq_MM.dtype)
        return alignment(sq_MM, torch.where(own_MM, 1.0, w_MM), _once(own_MM | True), alpha=self.alpha)


class Uniformity:
    """Scans of a view spread over the sphere. t: sharpness; conditional: only as far as their labels differ."""

    name = "uniformity"
    reads: tuple[str, ...] = ()

    def __init__(self, method: Method, facts: Facts, *, t: Sharpness = 2.0, conditional: Flag = False) -> None:
        self.t, self.conditional = t, _conditional(self.name, method, conditional)

    def __call__(self, method: Method, joint: Joint) -> Tensor:
        """The mean over views of the term on squared distances of z."""
        sq_MM, view_M = _squares(joint), gather(joint.view_N)
        w_MM = _classes(method, joint)[0] if self.conditional else torch.zeros_like(sq_MM)
        once_MM = _once(same(view_M, view_M))
        parts = [uniformity(sq_MM, w_MM, once_MM & (view_M == v)[:, None], t=self.t) for v in range(joint.views)]
        return torch.stack(parts).mean()


def _classes(method: Method, joint: Joint) -> tuple[Tensor, Tensor]:
    """How much two rows are one class by the kernels of the loss, and whether labels say so; (M, M)."""
    labels_M = {c: gather(joint.rows(c)) for c in method.kernels}
    subject_M = gather(joint.rows("subject"))
    own_MM = same(subject_M, subject_M)
    if not method.kernels:
        return torch.zeros(own_MM.shape, device=own_MM.device), own_MM | True
    kernels = {c: k.unscaled for c, k in method.kernels.items()}
    logw_MM, known_MM, _ = label_weights(kernels, labels_M, labels_M, own_MM, "drop")
    return logw_MM.exp(), known_MM


def _squares(joint: Joint) -> Tensor:
    z_MD = gather(joint.z_ND)
    return (2 - 2 * cosine(z_MD, z_MD, 1.0)).clamp(min=0)


def _conditional(name: str, method: Method, asked: bool) -> bool:
    if asked and not method.kernels:
        raise RecipeError(f"{name}: conditional weighs pairs by the kernels of the loss, and this method has none")
    return asked
