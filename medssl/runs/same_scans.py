"""Test scans of a features table that the probes or the encoder were trained on under another name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from medssl.data.manifest.copies import copies
from medssl.documents.json_file import read_json
from medssl.errors import count
from medssl.evaluation.rows import SPLITS, text_column, where
from medssl.features.table import FeatureTable
from medssl.files import write_atomic
from medssl.tables.people import COPY

DIGESTS = "scan-digests.json"
"""The file of a run folder with the digests of its training scans, sorted, without names."""
_LEAST = 8
"""Features from which on equal ones are no chance."""


class Digests(TypedDict):
    """What ``DIGESTS`` holds: the encoder that was trained on the scans, and the mark of each."""

    encoder: str
    scans: list[str]


def write_digests(run: Path, encoder: str, marks: Sequence[str]) -> None:
    """Write the digests of the training scans into a run folder. encoder: digest of its weights."""
    content: Digests = {"encoder": encoder, "scans": sorted(filter(None, marks))}
    write_atomic(run / DIGESTS, json.dumps(content, indent=0) + "\n")


def copied(table: FeatureTable) -> list[str]:
    """Notes on test rows that show the scan of a train row of the table under another name; none where there are none.

    By the column ``COPY``, and by features that are the same to the last bit.
    """
    train, test, who = _sides(table)
    said = []
    whats = ("are the same image as a scan", "have the very features of a row")
    for found, what in zip(_pairs(table, train, test), whats, strict=True):
        if found:
            row, other = found[0]
            said.append(
                f"{len(found)} of {count(len(test), 'test scan')} {what} of split train under another name (first: "
                f"{where(row, who)} and {where(other, who)}), so their scores say nothing about new people; take them "
                "out, or put both into one split"
            )
    return said


def trained_on(table: FeatureTable) -> list[str]:
    """A note on further test rows that show a training scan of the table's encoder, by the digests of its run."""
    train, test, who = _sides(table)
    named = {row for found in _pairs(table, train, test) for row, _ in found}
    marks = text_column(table.meta, COPY)[test].tolist()
    seen = [int(test[k]) for k, _ in copies(marks, _digests(table)) if int(test[k]) not in named]
    if not seen:
        return []
    return [
        f"{len(seen)} of {count(len(test), 'test scan')} {'are' if len(seen) > 1 else 'is'} the same image as a scan "
        f"that was trained on by this encoder (first: {where(seen[0], who)}), so their scores say nothing about new "
        "people"
    ]


def _sides(table: FeatureTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train rows, test rows, and who every row is."""
    cells = text_column(table.meta, "split")
    split = np.array([SPLITS.get(cell.lower(), "") for cell in cells], dtype=object)
    test = np.flatnonzero((split != "") & (split != "train"))
    return np.flatnonzero(split == "train"), test, text_column(table.meta, "participant_id")


def _pairs(
    table: FeatureTable, train: np.ndarray, test: np.ndarray
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(test row, train row) with one image, and of the other test rows those with the same features."""
    marks = text_column(table.meta, COPY)
    same = [(int(test[k]), int(train[j])) for k, j in copies(marks[test].tolist(), marks[train].tolist())]
    return same, _equal_rows(table.values, train, np.setdiff1d(test, [row for row, _ in same]))


def _digests(table: FeatureTable) -> list[str]:
    """The marks of the scans that a table's encoder was trained on; none where its run folder does not say."""
    run = Path(str(table.provenance.get("run", "")))
    file = (run if run.is_dir() else run.parent) / DIGESTS
    if not table.provenance.get("run") or not file.is_file():
        return []
    found = read_json(file, Digests, "delete it, and scans that the encoder has seen are told by their names alone")
    return found["scans"] if found["encoder"] == table.provenance.get("encoder") else []


def _equal_rows(values_NF: np.ndarray, train: np.ndarray, test: np.ndarray) -> list[tuple[int, int]]:
    """(test row, train row) with the same features; none of an encoder that gives most rows the same."""
    if values_NF.shape[1] < _LEAST:
        return []
    first: dict[bytes, int] = {}
    for row in train.tolist():
        if np.isfinite(values_NF[row]).all() and np.ptp(values_NF[row]) > 0:
            first.setdefault(values_NF[row].tobytes(), row)
    if len(first) * 2 < len(train):
        return []
    found = ((row, first.get(values_NF[row].tobytes())) for row in test.tolist())
    return [(row, other) for row, other in found if other is not None]
