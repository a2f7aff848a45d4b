"""The folds of a feature table: which rows fit the probes of a fold and on which rows these are judged.

Columns fold0, fold1, fold2 hold the challenge's cross-validation of its training set (train, internal_test,
external_test or empty); the column split holds the public validation rows. Without fold columns the split itself
is the only fold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.errors import UserError, count
from medssl.evaluation.rows import EXTERNAL, INTERNAL, SPLITS, Rows, read_rows
from medssl.tables.missing import cell_text

HELD_OUT, TEST = "held_out", "test"
TITLES = {
    TEST: "Test rows of the split (OpenBHB: the public validation set; the kit's step `test`)",
    HELD_OUT: "Rows that each fold holds out of the training set (the kit's step `valid`)",
}
_FOLD = re.compile(r"fold\d+")


@dataclass(frozen=True, eq=False)
class Fold:
    """One fit of the probes. parts: HELD_OUT and TEST, where present, with the same training rows."""

    name: str
    parts: Mapping[str, Rows]

    @property
    def rows(self) -> Rows:
        """The rows of any part: what concerns training is the same in all."""
        return next(iter(self.parts.values()))

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Test rows of all parts, (N,)."""
        return np.any([rows.test for rows in self.parts.values()], axis=0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, each once."""
        return tuple(dict.fromkeys(note for rows in self.parts.values() for note in rows.notes))


def fold_columns(meta: pd.DataFrame) -> list[str]:
    """Names fold0, fold1, ... of the columns that hold anything, by number."""
    names = [str(c) for c in meta.columns if _FOLD.fullmatch(str(c))]
    return sorted((n for n in names if any(cell_text(v) for v in meta[n].tolist())), key=lambda n: int(n[4:]))


def read_folds(meta: pd.DataFrame) -> list[Fold]:
    """The folds of a table with columns participant_id, age, site and split or fold0, fold1, ...

    Errors: UserError without both, where a person or a family is on both sides of a fold, and where a row that the
    split keeps for testing is in a fold.
    """
    columns = fold_columns(meta)
    split = [cell_text(v).lower() for v in meta["split"].tolist()] if "split" in meta.columns else [""] * len(meta)
    if not columns:
        if not any(split):
            raise UserError(
                "no row has a split and there are no columns fold0, fold1, fold2, so nothing says what to train the "
                "probes on; make folds with --folds 3, or run `medssl cohort split` on the manifest and embed again"
            )
        return [Fold("split", {TEST: _unseen(read_rows(meta, unseen_scored=True))})]
    tested = np.array([SPLITS.get(cell) in (INTERNAL, EXTERNAL) for cell in split])
    return [_fold(meta, name, split, tested) for name in columns]


def _fold(meta: pd.DataFrame, name: str, split: list[str], tested: NDArray[np.bool_]) -> Fold:
    given = [cell_text(v) for v in meta[name].tolist()]
    both = np.flatnonzero(tested & (np.array(given, dtype=object) != ""))
    if both.size:
        i = int(both[0])
        raise UserError(
            f"row {i + 2} is {split[i]} in the column split but {given[i]} in {name}: the folds divide the training "
            f"rows only; leave {name} empty there"
        )
    parts = {}
    try:
        if tested.any():
            cells = [s if t else ("train" if SPLITS.get(g.lower()) == "train" else "")
                     for s, t, g in zip(split, tested, given, strict=True)]  # fmt: skip
            parts[TEST] = _unseen(read_rows(meta.assign(split=cells), unseen_scored=True))
        parts[HELD_OUT] = read_rows(meta.assign(split=given), unseen_scored=True)
    except UserError as error:
        raise UserError(f"{name} as the split: {error}") from error
    return Fold(name, parts)


def _unseen(rows: Rows) -> Rows:
    """The rows, refused where a site of the external ones has training rows: the challenge's has none."""
    known = set(rows.site[rows.train]) - {""}
    if len(known) > 1 and (both := sorted(known & set(rows.site[rows.external]))):
        raise UserError(
            f"{count(len(both), 'site')} with external_test rows (first: {both[0]}) also have train rows, but external "
            "sites of the challenge are unseen in training; call these rows internal_test, correct the column site, or "
            "use `medssl score`, which says so in a note"
        )
    return rows
