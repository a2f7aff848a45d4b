"""The tables of OpenBHB: who was scanned where, the official splits and the folds of the cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.data.manifest.file import SPLITS
from medssl.data.sources.persons import tidy
from medssl.data.sources.tables import read_table
from medssl.documents.json_file import read_json
from medssl.errors import ManifestError, UserError
from medssl.tables.people import bare
from medssl.tables.pointers import stands_in

FOLDS = ("fold0", "fold1", "fold2")
_LABELS = ("train_site_labels_v1.tsv", "test_site_labels_v1.tsv")


def array_rows(path: Path, stem: str, count: int, notes: list[str]) -> pd.DataFrame:
    """The table beside an array, one row per row of the array, with its official split.

    stem: train, internal_test, external_test, or test (then the table's column split decides). Errors:
    ManifestError where the table is absent, has another number of rows, or does not say the split of test rows.
    """
    table = _with_site(_read(path, notes), path, notes)
    if len(table) != count:
        raise ManifestError(
            f"{path} has {len(table)} rows, but {path.with_suffix('.npy').name} has {count}; take both from the same "
            "release"
        )
    if stem in SPLITS:
        table["split"] = stem
    elif "split" not in table or not set(table["split"]) <= {"internal_test", "external_test"}:
        odd = "has no column split" if "split" not in table else "has other words than that in split"
        raise ManifestError(
            f"{path} {odd}, so it is unknown which rows are internal_test and which external_test; use the arrays "
            "internal_test.npy and external_test.npy, or a test.tsv with that column"
        )
    if "participant_id" not in table:
        notes.append(f"{path.name} has no participant_id; rows are called {stem}-0, {stem}-1, ...")
        table["participant_id"] = [f"{stem}-{row}" for row in range(len(table))]
    return table


def persons_of(root: Path, notes: list[str]) -> pd.DataFrame:
    """participants.tsv with the manifest's names; siteXacq from the site label files where it lacks that column."""
    path = root / "participants.tsv"
    if not path.is_file() and (root.parent / "participants.tsv").is_file():
        path = root.parent / "participants.tsv"
    table = _read(path, notes)
    if "participant_id" not in table:
        raise ManifestError(f"{path}: has no column participant_id; take the table as published")
    labels = _site_labels(path.parent)
    if labels and "siteXacq" not in table:
        table["siteXacq"] = [labels.get(bare(label, "sub"), ("", ""))[0] for label in table["participant_id"]]
    return _with_site(table, path, notes)


def official_splits(root: Path, rows: pd.DataFrame, notes: list[str]) -> pd.Series:
    """The split of every row: the table's, else by the site label files (test at a trained site is internal).

    Errors: ManifestError where neither is there.
    """
    if "split" in rows:
        missing = int((rows["split"] == "").sum())
        if missing:
            notes.append(f"{missing} rows have no split and are used nowhere")
        return rows["split"]
    labels = _site_labels(root) or _site_labels(root.parent)
    if not labels:
        raise ManifestError(
            f"{root}: participants.tsv has no column split and there is no {_LABELS[0]}, so the official splits are "
            "unknown; use the participants.tsv of the Hugging Face release"
        )
    trained = {site for site, name in labels.values() if name == "train"}
    found = []
    for label in rows["participant_id"]:
        site, name = labels.get(bare(label, "sub"), ("", ""))
        found.append(name if name != "test" else "internal_test" if site in trained else "external_test")
    notes.append("test scans at a site of the training set were taken as internal_test, the others as external_test")
    return pd.Series(found, index=rows.index, dtype=object)


def fold_columns(root: Path, rows: pd.DataFrame, notes: list[str]) -> dict[str, list[str]]:
    """fold0, fold1, fold2 -> train, internal_test, external_test or "" per row; {} where no file says.

    cv_splits_indices.json counts the rows of train.npy from 0; cv_splits.json names participants. Errors:
    ManifestError for a file of another form, a row or participant that the training set lacks or holds twice.
    """
    train = [k for k, split in enumerate(rows["split"]) if split == "train"]
    for name in ("cv_splits_indices.json", "cv_splits.json"):
        path = next((p / name for p in (root, root.parent) if (p / name).is_file()), None)
        if path is None or ("@" not in str(rows["image"].iloc[0]) and name == "cv_splits_indices.json"):
            continue
        if name == "cv_splits.json":
            keys: Mapping[Any, int] = {bare(str(rows["participant_id"].iloc[k]), "sub"): k for k in train}
        else:
            keys = dict(enumerate(train))
        return _folds(path, _content(path), keys, len(rows))
    notes.append("there is no file of cross-validation folds (cv_splits_indices.json), so no columns fold0 to fold2")
    return {}


def _content(path: Path) -> Any:
    try:
        return read_json(path, dict[str, Any], "take the file as published")
    except UserError as error:
        raise ManifestError(str(error)) from error


def _folds(path: Path, content: Any, keys: Mapping[Any, int], count: int) -> dict[str, list[str]]:
    columns = {}
    for fold in FOLDS:
        parts = content.get(fold) if isinstance(content, dict) else None
        if not isinstance(parts, dict) or not all(isinstance(parts.get(split), list) for split in SPLITS):
            raise ManifestError(
                f"{path}: {fold} must hold {', '.join(SPLITS)}, but it does not; take the file as published"
            )
        column = [""] * count
        for split in SPLITS:
            for key in parts[split]:
                at = keys.get(key if isinstance(key, int) and key in keys else bare(str(key), "sub"))
                if at is None or column[at]:
                    what = "is in two parts of it" if at is not None else "is not in the training set"
                    raise ManifestError(f"{path}: {key} of {fold} {what}; take the file of the same release")
                column[at] = split
        columns[fold] = column
    return columns


def _read(path: Path, notes: list[str]) -> pd.DataFrame:
    if not path.is_file() and not stands_in(path):
        raise ManifestError(f"{path} does not exist; put the table of the release there")
    return read_table(path, notes)


def _with_site(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """The tidy table with siteXacq as site; the plain site code stays as given_site."""
    columns = {"site": "siteXacq"} if "siteXacq" in table else None
    out = tidy(table, path, notes, columns)
    if "site" in out:
        out["site"] = [site.removesuffix(".0") for site in out["site"]]
    return out


def _site_labels(folder: Path) -> dict[str, tuple[str, str]]:
    """Bare id -> (siteXacq, train or test) of the site label files; {} where they are not there."""
    found: dict[str, tuple[str, str]] = {}
    for name, split in zip(_LABELS, ("train", "test"), strict=True):
        path = folder / name
        if not path.is_file():
            continue
        table = read_table(path)
        if not {"participant_id", "siteXacq"} <= set(table.columns):
            raise ManifestError(f"{path}: must have the columns participant_id and siteXacq; take it as published")
        for label, site in zip(table["participant_id"], table["siteXacq"], strict=True):
            found[bare(label, "sub")] = (str(site).removesuffix(".0"), split)
    return found
