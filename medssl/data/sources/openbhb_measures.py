"""Regional measures of OpenBHB as columns of a manifest, so that they can be standardised over scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medssl.data.volumes.reference import parse
from medssl.data.volumes.stored_arrays import read_part, table_features
from medssl.errors import ManifestError

TABULAR = ("vbm_roi", "desikan_roi", "destrieux_roi")


def as_columns(found: pd.DataFrame, modality: str) -> pd.DataFrame:
    """The rows of ``scan_openbhb`` with the measures themselves instead of ``image``, a float column per measure.

    Columns are called MODALITY_CHANNEL_REGION, counted from 0 in stored order, or MODALITY_NAME where the rows name a
    table of measures, so that "MODALITY_*" are the measures in every layout.
    Errors: ManifestError for a modality that is no table, VolumeError for rows that cannot be read.
    """
    if modality not in TABULAR:
        raise ManifestError(f"modality '{modality}' cannot be written as columns; choose one of {', '.join(TABULAR)}")
    references = [parse(cell) for cell in found["image"]]
    values = [read_part(reference)[0][:, :, 0, 0] for reference in references]
    if references[0].part == "table":
        own = _table_names({reference.file for reference in references})
        names = [f"{modality}_{name.removeprefix(f'{modality}_')}" for name in own]
    else:
        names = [f"{modality}_{channel}_{region}" for channel, region in np.ndindex(*values[0].shape)]
    matrix = pd.DataFrame(np.stack(values).reshape(len(values), -1), columns=names, index=found.index)
    out = pd.concat([found.drop(columns="image"), matrix], axis=1)
    out.attrs["notes"] = [*found.attrs.get("notes", []), f"{len(names)} measures as columns; read them by data.columns"]
    return out


def _table_names(files: set[Path]) -> list[str]:
    """The names of the measures, which all tables must share in the same order."""
    named = {file: table_features(file) for file in sorted(files)}
    first = next(iter(named))
    for file, names in named.items():
        if names != named[first]:
            raise ManifestError(f"{file} has other columns than {first}; take both from the same release")
    return named[first]
