"""Which block of the challenge's rows a run was trained on, and whether it can be read from there."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.data.volumes.openbhb_layout import Block, BlockTable
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import UserError

_NAMES = {
    "vbm": r"#vbm(@\d+)?$|preproc-cat12vbm_desc-gm_T1w\.npy",
    "quasiraw": r"#quasiraw(@\d+)?$|preproc-quasiraw_T1w\.npy",
    "xhemi": r"#xhemi(@\d+)?$|desc-xhemi_T1w\.npy",
    "vbm_roi": r"#vbm_roi(@\d+)?$|desc-gm_ROI\.npy|cat12vbm_roi_features\.csv",
    "desikan_roi": r"#desikan_roi(@\d+)?$|desc-desikan_ROI\.npy|desikan_roi_features\.csv",
    "destrieux_roi": r"#destrieux_roi(@\d+)?$|desc-destrieux_ROI\.npy|destrieux_roi_features\.csv",
}
"""How image cells of OpenBHB name a modality: a part of an array, or the files of the other two layouts."""
_COLUMN = re.compile(r"(vbm_roi|desikan_roi|destrieux_roi)_(\d+)_(\d+)")
"""How columns of regional measures are called: MODALITY_CHANNEL_REGION, counted from 0 in stored order."""


def modality_of(card: Mapping[str, Any], asked: str | None, run: Path) -> tuple[str, str]:
    """The modality, and how it is known: "manifest" or "option".

    It is read from the image cells of the manifests that the run was trained on; ``asked`` is needed where those
    do not tell (own scans, or a manifest that is gone). Errors: UserError where both differ, or neither tells.
    """
    known = trained_on(card)
    if asked is None and not known:
        raise UserError(
            f"{run} does not tell which images of OpenBHB it was trained on; name them, such as --modality quasiraw"
        )
    if len(known) > 1:
        raise UserError(
            f"{run} was trained on several modalities ({', '.join(sorted(known))}), but a submission reads one; train "
            "an encoder on one of them"
        )
    if asked is not None and known and asked not in known:
        raise UserError(
            f"{run} was trained on {next(iter(known))}, not on {asked}, whose values it would misread; export it with "
            f"--modality {next(iter(known))}, or train on {asked}"
        )
    return (next(iter(known)), "manifest") if known else (str(asked), "option")


def trained_on(card: Mapping[str, Any]) -> set[str]:
    """Modalities that image cells of the training manifests name; empty where they cannot be read or name none."""
    found = {m[1] for m in map(_COLUMN.fullmatch, (card.get("columns") or {}).get("names", [])) if m}
    columns = list(card.get("images", ("image",)))
    for path in card.get("training", {}).get("manifests", []):
        try:
            separator = "\t" if str(path).lower().endswith(".tsv") else ","
            table = pd.read_csv(path, sep=separator, dtype=str, usecols=lambda name: name.lower() in columns)
        except (OSError, ValueError):
            continue
        found |= named_in(table)
    return found


def named_in(cells: pd.DataFrame) -> set[str]:
    """Modalities that image cells of a manifest name."""
    named = cells.fillna("").astype(str).to_numpy().ravel()
    return {name for cell in named for name, pattern in _NAMES.items() if re.search(pattern, cell)}


def stored_shape(block: Block, spec: Mapping[str, Any]) -> tuple[int, ...]:
    """(C, D, H, W) in which values of the block are prepared.

    Volumes have their grid. Regional and surface measures have no grid of their own: they are laid out as the
    network was trained to read them, in the same order.
    """
    if block.spacing is not None:
        return block.shape
    return (int(spec["in_channels"]), *_three(spec["shape"] or block.shape[1:]))


def columns_of(card: Mapping[str, Any], block: Block, run: Path) -> dict[str, Any] | None:
    """Where in the block the columns of a table stand that the encoder reads, and how they are standardised.

    None for an encoder that reads images. Errors: UserError where a column is not named after its place.
    """
    given = card.get("columns")
    if not given:
        return None
    channels, regions = block.shape[0], math.prod(block.shape[1:])
    places = []
    for name in given["names"]:
        found = _COLUMN.fullmatch(name)
        channel, region = (int(found[2]), int(found[3])) if found else (channels, 0)
        if not found or found[1] != block.name or channel >= channels or region >= regions:
            raise UserError(
                f"{run} reads the column '{name}', whose place in the rows of {block.name} is not known; train on "
                f"columns named {block.name}_0_0 and on, which `medssl cohort scan --layout openbhb --as-table` writes "
                "from the arrays or the tree"
            )
        places.append(channel * regions + region)
    return {"places": places, "mean": list(given["mean"]), "sd": list(given["sd"])}


def check_input(table: BlockTable, name: str, spec: Mapping[str, Any], prep: Preprocessing, run: Path) -> None:
    """UserError unless the block, preprocessed as in the training, is what the encoder reads."""
    block = table.block(name)
    stored = stored_shape(block, spec)
    values = math.prod(stored)
    if values != math.prod(block.shape):
        raise UserError(
            f"{run} reads {values} values per scan, but {name} has {math.prod(block.shape)}, so it was trained on "
            "another modality; give the one it was trained on (--modality)"
        )
    if int(spec["in_channels"]) != stored[0]:
        raise UserError(
            f"{run} reads {spec['in_channels']} images per scan, but {name} has {stored[0]}; train an encoder on "
            f"{name} alone"
        )
    given = prep.output_shape(stored[1:], [block.spacing or 1.0] * 3)
    wanted = _three(spec["shape"] or given)
    if given != wanted:
        raise UserError(
            f"{run} reads {by(wanted)} voxels, but {name} gives {by(given)} after its preprocessing, so it was trained "
            "on another modality; give the one it was trained on (--modality)"
        )


def _three(shape: Sequence[int]) -> tuple[int, ...]:
    """(D, H, W) of a shape that may be a plain number of values."""
    return (*(int(n) for n in shape), *[1] * (3 - len(shape)))


def by(shape: Sequence[int]) -> str:
    """A shape in words: "121 x 145 x 121"."""
    return " x ".join(str(n) for n in shape)
