"""What a run says of its scans: how they were acquired, prepared and cut."""

from __future__ import annotations

import math

from medssl.errors import count
from medssl.report.checklists.item import Fill
from medssl.report.checklists.known import Known, is_number, mapping
from medssl.report.words import listing

_RUN, _RECIPE, _CARD = "run.json", "recipe.yaml", "encoder.safetensors"


def preparation(known: Known) -> Fill:
    """What medssl does to a scan before the encoder sees it, and what it refuses."""
    features = known.training.get("features")
    if isinstance(features, int):
        text = (f"The input is {count(features, 'column')} of a table, standardised by mean and standard deviation of "
                "the training rows; an empty cell becomes the mean.")  # fmt: skip
        return Fill(text, (_RUN,))
    chain = _chain(known)
    if not chain:
        return Fill()
    text = (
        f"Every scan is turned to RAS axes, then {chain}, alike for all scans and without looking at age, sex or site. "
        "A scan that cannot be read, is constant or holds NaN or infinite voxels is refused"
        + (" (NaN is set to 0 in this run)." if known.setting("data", "preprocessing", "nan") == "zero" else ".")
        + " medssl strips no skull, corrects no bias field and registers nothing."
    )
    return Fill(text, (_RECIPE,))


def _chain(known: Known) -> str:
    """Resampling, cropping and intensities in words, from the card, else from the recipe."""
    card = mapping(known.card.get("preprocessing"))

    def read(key: str) -> list[str]:
        given = card.get(key)
        return [f"{v:g}" for v in given] if isinstance(given, list) else known.several("data", "preprocessing", key)

    spacing = [f"{float(v):g}" for v in read("spacing") if is_number(v)]
    shape = [f"{float(v):g}" for v in read("shape") if is_number(v)]
    kind = str(card.get("intensity") or known.setting("data", "preprocessing", "intensity"))
    mask = str(card.get("mask") or known.setting("data", "preprocessing", "mask"))
    where = {"nonzero": "inside the voxels that are not 0", "otsu": "inside an Otsu mask of the head",
             "none": "over the whole field of view"}.get(mask, "")  # fmt: skip
    intensities = {
        "zscore": f"scaled to mean 0 and standard deviation 1 {where}",
        "percentile": f"scaled so that percentiles 1 and 99 {where} are 0 and 1, and clipped",
        "none": "left with its stored intensities",
    }.get(kind, "")
    steps = [
        f"resampled to {' x '.join(spacing)} mm" if len(spacing) == 3 else "",
        f"cropped or padded about the image centre to {' x '.join(shape)} voxels" if len(shape) == 3 else "",
        intensities.strip(),
    ]
    return listing([step for step in steps if step])


def subsets(known: Known) -> Fill:
    """What part of a scan is used."""
    shape = mapping(known.card.get("preprocessing")).get("shape") or known.several("data", "preprocessing", "shape")
    if not shape or isinstance(known.training.get("features"), int):
        return Fill()
    size = " x ".join(f"{float(v):g}" for v in shape if is_number(str(v)))
    return Fill(f"Of every scan the block of {size} voxels about the image centre is used, cut out automatically; no "
                "slice, region or lesion was chosen by hand in medssl.", (_RECIPE,))  # fmt: skip


def acquisition(known: Known) -> Fill:
    """Voxel sizes of the stored training scans, from the likeness of the card."""
    card = mapping(known.card.get("likeness"))
    measures, span = card.get("measures"), card.get("span")
    if not isinstance(measures, list) or not isinstance(span, list) or len(span) != 2:
        return Fill()
    ends = []
    for name in ("finest", "coarsest"):
        pair = [part[measures.index(name)] for part in span
                if name in measures and isinstance(part, list) and len(part) > measures.index(name)]  # fmt: skip
        if len(pair) != 2 or not all(isinstance(v, int | float) and abs(v) < 20 for v in pair):
            return Fill()
        low, high = (f"{math.exp(v):.2g}" for v in pair)
        ends.append(low if low == high else f"{low} to {high}")
    text = (f"As stored, the training scans have voxels of {ends[0]} mm along their finest axis and {ends[1]} mm along "
            "their coarsest (2.5th to 97.5th percentile).")  # fmt: skip
    return Fill(text, (_CARD,))
