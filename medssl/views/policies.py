"""View policies: which transforms a view goes through, in which order, each with its own coin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Fraction, check_arguments, declared, nearest, short
from medssl.errors import RecipeError, UserError
from medssl.transforms import TRANSFORMS, Params, Transform, apply_batch, apply_chain, arguments_of

Drawn = list[dict[str, Any] | None]
"""One entry per slot: ``{"name": ..., "params": {...}}``, or None where the coin said no. JSON values only."""

_YAWARE: list[Any] = [
    {"zscore": {"foreground": False, "per_channel": False}},
    {"flip": {"p": 0.5, "axes": [0, 1, 2], "idle": 0.25}},
    {"blur": {"p": 0.5, "sigma": [0.1, 1.0]}},
    {"noise": {"p": 0.5, "sd": [0.1, 1.0]}},
    {"cutout": {"p": 0.5, "size": 0.25}},
    {"crop": {"p": 0.5, "scale": 0.75}},
]
_ROBUST: list[Any] = [
    {"flip": {"p": 0.5, "axes": [0]}},
    {"gamma": {"p": 1.0, "gamma": [0.6, 1.6], "foreground": True}},
    {"bias": {"p": 0.5, "coefficients": [-0.12, 0.12], "foreground": True}},
    {"zscore": {"p": 1.0, "foreground": True}},
    {"crop": {"p": 0.5, "scale": [0.75, 0.95]}},
    {"noise": {"p": 0.5, "sd": [0.02, 0.3], "foreground": True}},
    {"cutout": {"p": 0.5, "size": [0.15, 0.4]}},
]
POLICIES: dict[str, list[Any]] = {
    "yaware": _YAWARE,
    "cutout": [_YAWARE[0], {"cutout": {"size": 0.25}}],
    "crop": [_YAWARE[0], {"crop": {"scale": 0.75}}],
    "none": [],
    "robust": _ROBUST,
    "table": [{"mask_features": {"p": 1.0, "share": [0.1, 0.5]}}, {"noise": {"p": 1.0, "sd": [0.05, 0.3]}}],
}
"""The named policies, written as a recipe would write them.

yaware: the y-aware paper's ``all_tf`` (Dufumier et al., MICCAI 2021, published code): z-score of the whole array,
    then flip, blur, noise, cutout and crop, each with probability 0.5. What differs from that code: a flip of the
    channel axis is an idle draw (same distribution for one channel), the enlarged crop and the blur continue the
    outermost voxel instead of reflecting there, the generator is seeded.
cutout, crop: its ``cutout`` and ``crop`` settings: the same z-score, then that one transform, always.
none: every view equals the scan.
robust: for cohorts of several scanners, on scans z-scored inside the brain mask. Contrast (gamma) and shading
    (bias field) vary inside the brain and are followed by another masked z-score; shape is kept but for a
    left-right flip and a crop, which comes after them because interpolation blurs the edge of the mask; then
    noise inside the brain, and cutout.
table: for regional measures (``data.columns``): a share of the features is hidden, then noise on all of them.

The z-score of the first three counts the background, so a scan that is embedded later must be normalised the same
way (preprocessing with ``mask: none``, or :meth:`Policy.clean`); that of ``robust`` repeats the masked one.
"""


WITHOUT_PLACE = ("mask_features", "noise", "zscore")
"""Transforms for which the order of the values means nothing: those that suit tables and regional measures."""


@dataclass(frozen=True)
class Slot:
    """One transform and the probability, in [0, 1], that a view goes through it."""

    transform: Transform
    p: float = 1.0


@dataclass(frozen=True)
class Policy:
    """Ordered slots. All randomness is in ``sample``; ``apply`` replays what it drew, bit for bit."""

    slots: tuple[Slot, ...] = ()
    name: str = "custom"
    dtype: torch.dtype = torch.float32  # of the matrix products of fused transforms

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Drawn:
        """Toss each slot's coin and draw its parameters for a volume of shape (C, D, H, W).

        Entries belong to slots, so a view that shares some transforms with another one (LooC) is made by
        exchanging those entries of two lists.
        """
        return [
            {"name": s.transform.name, "params": s.transform.sample(rng, shape)} if rng.random() < s.p else None
            for s in self.slots
        ]

    def apply(self, x: Tensor, drawn: Sequence[Mapping[str, Any] | None]) -> Tensor:
        """A new float32 tensor: x (C, D, H, W) through the drawn slots in order; x is left untouched.

        Raises UserError where ``drawn`` was not sampled from these slots.
        """
        if len(drawn) != len(self.slots):
            raise UserError(
                f"the drawn parameters have {len(drawn)} entries, but the policy {self.name!r} has "
                f"{len(self.slots)} slots; replay with the policy they were drawn from."
            )
        steps: list[tuple[Transform, Params]] = []
        for slot, entry in zip(self.slots, drawn, strict=True):
            if entry is None:
                continue
            if entry["name"] != slot.transform.name:
                raise UserError(
                    f"the drawn parameters are for {entry['name']!r}, but that slot of the policy {self.name!r} is "
                    f"{slot.transform.name!r}; replay with the policy they were drawn from."
                )
            steps.append((slot.transform, entry["params"]))
        return apply_chain(x, steps, self.dtype)

    def apply_batch(self, x: Tensor, drawn: Sequence[Drawn]) -> Tensor:
        """``apply`` of B volumes (B, C, D, H, W) with what was drawn for each, together and where they are.

        Equal to ``apply`` up to rounding: on a GPU and on a CPU the sums run in another order.
        """
        entries = [[None if e is None else e["params"] for e in column] for column in zip(*drawn, strict=True)]
        return apply_batch(x, [s.transform for s in self.slots], entries, self.dtype)

    def clean(self, x: Tensor) -> Tensor:
        """An unaugmented scan as an encoder trained on these views should see it: only the z-scores with p 1."""
        always = [s.p == 1.0 and s.transform.name == "zscore" for s in self.slots]
        return self.apply(x, [{"name": "zscore", "params": {}} if yes else None for yes in always])

    def to_list(self) -> list[dict[str, dict[str, Any]]]:
        """Every slot with its probability and all arguments, as JSON values; build_policy reads it back."""
        return [{s.transform.name: {"p": s.p, **arguments_of(s.transform)}} for s in self.slots]


def build_policy(spec: str | Sequence[Any] | Policy) -> Policy:
    """Policy of a name in :data:`POLICIES`, or of a list such as ``[{flip: {p: 0.5, axes: [0]}}, zscore]``.

    An item is a transform's name, or a mapping of one name to its arguments and ``p`` (default 1).
    Raises RecipeError naming the slot, and the nearest known name for an unknown one.
    """
    if isinstance(spec, Policy):
        return spec
    if isinstance(spec, str):
        if spec not in POLICIES:
            raise RecipeError(f"views.policy is {short(spec)}, which is no policy; {nearest(spec, POLICIES)}")
        return Policy(tuple(_slot(item, f"views.policy.{i}") for i, item in enumerate(POLICIES[spec])), spec)
    if not isinstance(spec, Sequence):
        raise RecipeError(
            f"views.policy is {short(spec)}, but it must be a name ({', '.join(POLICIES)}) or a list of transforms"
        )
    return Policy(tuple(_slot(item, f"views.policy.{i}") for i, item in enumerate(spec)))


def _slot(item: object, where: str) -> Slot:
    if isinstance(item, Mapping) and len(item) == 1:
        name, arguments = next(iter(item.items()))
    else:
        name, arguments = item, None
    if not isinstance(name, str) or not (arguments is None or isinstance(arguments, Mapping)):
        raise RecipeError(
            f"{where} is {short(item)}, but it must be a transform's name or one name with its arguments, "
            "such as {noise: {p: 0.5, sd: [0.1, 0.5]}}"
        )
    if name not in TRANSFORMS:
        raise RecipeError(f"{where} is {short(name)}, which is no transform; {nearest(name, TRANSFORMS)}")
    known = {"p": Fraction, **declared(TRANSFORMS[name])}
    chosen = {"p": 1.0} | check_arguments(f"{where}.{name}", name, known, arguments or {}, RecipeError)
    return Slot(TRANSFORMS[name](**{k: v for k, v in chosen.items() if k != "p"}), chosen["p"])
