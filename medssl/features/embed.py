"""Encoder + manifest -> features table, in parts that survive an interruption."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.dataset import ScanDataset, TableDataset, plain_batches
from medssl.data.loading.leaks import marks_of
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import Columns
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import StaleError, UserError
from medssl.features.columns import FOLDS
from medssl.features.files import check_target
from medssl.features.likeness import Likeness
from medssl.features.looking import LookingDataset
from medssl.features.pieces import read_piece, write_piece
from medssl.features.scans import failures_path, read_scans
from medssl.features.table import FeatureTable
from medssl.features.unlike import UNLIKE, judge, places_of
from medssl.files import exclusive, make_folder, write_atomic
from medssl.progress.steps import tracked
from medssl.tables.people import COPY

PART = 256
_LOST = ("participant_id", "session")
_META = ("participant_id", "session", "age", "sex", "site", "dataset", "split", "diagnosis", "subject", *FOLDS)


def embed_rows(
    forward: Callable[[Tensor], Tensor],
    dataset: ScanDataset,
    rows: np.ndarray,
    device: torch.device | str = "cpu",
    batch: int = 32,
    workers: int = 0,
) -> tuple[Tensor, Tensor]:
    """Run ``forward`` over rows without augmentation and gradient: index (N,) int64 and out (N, D), on the CPU.

    The next batches are read while the encoder computes, by ``workers`` threads, at least one (reading is copying out
    of the cache's memory maps, which holds no lock).
    """
    index, out = [], []
    batches = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    with torch.no_grad(), plain_batches(dataset, batches, workers) as items:
        for item in items:
            index.append(item["index"])
            out.append(forward(item["views"][0].to(device)).float().cpu())
    return torch.cat(index), torch.cat(out)


def embed_cohort(
    encoder: nn.Module,
    cohort: Cohort,
    preprocessing: Preprocessing,
    out: Path,
    *,
    provenance: Mapping[str, Any],
    head: nn.Module | None = None,
    clean: Callable[[Tensor], Tensor] | None = None,
    images: tuple[str, ...] = ("image",),
    columns: Columns | None = None,
    cache: VolumeCache | None = None,
    device: str = "cpu",
    batch: int = 32,
    workers: int = 0,
    progress: bool = True,
    likeness: Likeness | None = None,
    strict: bool = False,
    on_error: str = "stop",
) -> FeatureTable:
    """Embed every row of a cohort and write the table.

    encoder: set to eval mode here. head: maps pooled features (N, E) to z (N, D); without one the encoder's pooled
    output h is written. columns: features of a table that are embedded instead of images. clean: applied to every
    preprocessed volume (``Policy.clean``). provenance: names of the parents (encoder, manifest, recipe); parts of an
    interrupted run are reused only where they have the same parents, and a finished table of the same parents is
    returned as it is.
    The column "scan_digest" is equal in rows that show one image, and tells nothing of the image itself.
    likeness: of the encoder's training scans; the table gets the column "unlike" and provenance what is to be said of
    scans that look unlike them. strict: these are refused. on_error: "stop" or "skip", which leaves scans that cannot
    be read out of the table, lists them in ``failures_path(out)``, and counts them in provenance.
    Raises UserError for a scan that cannot be read or that gives features that are no numbers.
    """
    check_target(out)
    _refuse_names(_kept(cohort, columns), out)
    whole = _finished(out, provenance)
    if whole is not None:
        return _again(whole, out, strict)
    failed: dict[int, str] = {}
    if columns is not None:
        dataset: ScanDataset = TableDataset(columns.matrix(cohort), {}, None, clean)
    else:
        cache = cache or VolumeCache(None)
        dataset, failed = read_scans(cohort, images, cache, preprocessing, clean, progress, on_error == "skip")
    lost = cohort.table.iloc[sorted(failed)].assign(reason=[failed[row] for row in sorted(failed)])
    if failed:
        cohort = cohort.subset([row for row in range(len(cohort.table)) if row not in failed])
        provenance = {**provenance, "skipped": len(failed), "skipped_rows": sorted(failed)}
        part = _finished(out, provenance)
        if part is not None and failures_path(out).is_file():
            return _again(part, out, strict)
    encoder = encoder.to(device).eval()
    head = head.to(device).eval() if head is not None else None

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        h = encoder(x).pooled
        return h, h if head is None else head(h)

    with exclusive(out.with_name(f".{out.name}.lock"), str(out)):
        matrix, looks = _in_parts(forward, dataset, cohort, out, provenance, device, batch, workers, progress, likeness)
        meta, told = (
            cohort.table[_kept(cohort, columns)].assign(**{COPY: marks_of(dataset, range(len(dataset)))}),
            dict(provenance),
        )
        if likeness is not None:
            verdict = judge(likeness, looks[:, :-1], looks[:, -1], cohort.where, places_of(cohort))
            if strict and verdict.refusal:
                shutil.rmtree(_parts(out))
                raise UserError(verdict.refusal)
            meta = meta.assign(unlike=verdict.unlike)
            told |= {UNLIKE: verdict.sentences} if verdict.notices else {}
        if failed:
            write_atomic(failures_path(out), lost[[*_LOST, *images, "reason"]].to_csv(index=False, lineterminator="\n"))
        table = FeatureTable(meta, matrix, told)
        table.write(out)
        if not failed:
            failures_path(out).unlink(missing_ok=True)
        shutil.rmtree(_parts(out))
    return table


def _again(table: FeatureTable, out: Path, strict: bool) -> FeatureTable:
    """A finished table of the same parents; refused where ``strict`` would have kept it from being written."""
    if strict and table.provenance.get(UNLIKE):
        raise UserError(f"{out} is there already: {'; '.join(table.provenance[UNLIKE])}; leave out --strict (strict)")
    if not table.provenance.get("skipped"):
        failures_path(out).unlink(missing_ok=True)
    return table


def _kept(cohort: Cohort, columns: Columns | None) -> list[str]:
    """Columns that travel into a features table: what is known of a scan, and the user's own, but no input."""
    inputs = {"manifest", "row", "weight", "mask", UNLIKE, COPY, *(columns.names if columns is not None else ())}
    own = [str(c) for c in cohort.table if c not in (*_META, *inputs) and not str(c).startswith("image")]
    return [*(c for c in _META if c in cohort.table), *own]


def _refuse_names(names: list[str], out: Path) -> None:
    """UserError for a column that would be taken for a feature, before anything is embedded."""
    taken = [name for name in names if re.fullmatch(r"f\d+", name)]
    if taken:
        raise UserError(
            f"{out}: the manifest has a column {taken[0]}, which a table of features would take for a feature"
            f"{f' ({len(taken)} such columns)' if len(taken) > 1 else ''}; rename or drop it"
        )


def _in_parts(
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    dataset: ScanDataset,
    cohort: Cohort,
    out: Path,
    provenance: Mapping[str, Any],
    device: str,
    batch: int,
    workers: int,
    progress: bool,
    likeness: Likeness | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) of every row, each part of which is on the disk as soon as it is made.

    With ``likeness`` also what the scans look like and how far their features lie, (N, J + 1), kept in the same way.
    """
    parts = _open_parts(out, provenance)
    starts = range(0, len(cohort.table), PART)
    ranges = [np.arange(start, min(start + PART, len(cohort.table))) for start in starts]
    pieces = [read_piece(parts, start, len(rows)) for start, rows in zip(starts, ranges, strict=True)]
    lacking = [k for k, piece in enumerate(pieces) if piece is None]
    done = _embedded(forward, dataset, [ranges[k] for k in lacking], device, batch, workers, likeness)
    for k, (values, looks) in tracked(zip(lacking, done, strict=True), "embedding", len(lacking), progress):
        bad = ranges[k][~np.isfinite(values.numpy()).all(1)]
        if len(bad):
            raise UserError(
                f"{cohort.where(int(bad[0]))}: its features are not finite ({len(bad)} scans in all); run "
                f"`medssl cohort check` and compare its preprocessing with the encoder's"
            )
        write_piece(parts, starts[k], values.numpy(), looks)
        pieces[k] = values.numpy(), looks
    whole = [piece for piece in pieces if piece is not None]
    return np.concatenate([values for values, _ in whole]), np.concatenate([looks for _, looks in whole])


def _embedded(
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    dataset: ScanDataset,
    ranges: list[np.ndarray],
    device: str,
    batch: int,
    workers: int,
    likeness: Likeness | None,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Features of every range of rows and how these scans look, read ahead across ranges; no batch spans two."""
    batches = [rows[i : i + batch] for rows in ranges for i in range(0, len(rows), batch)]
    source = dataset if likeness is None else LookingDataset(dataset)
    with plain_batches(source, batches, workers) as items:
        for rows in ranges:
            out, looks = [], []
            for _ in range(0, len(rows), batch):
                item = next(items)
                with torch.no_grad():
                    h, values = forward(item["views"][0].to(device))
                out.append(values.float().cpu())
                if likeness is not None:
                    far = likeness.far(h.float().cpu().numpy())
                    looks.append(np.column_stack([item["meta"]["look"].numpy(), far]))
            yield torch.cat(out), np.concatenate(looks) if looks else np.zeros((len(rows), 0))


def _key(provenance: Mapping[str, Any]) -> str:
    """Of the parents; what was found in the scans is none."""
    parents = {name: value for name, value in provenance.items() if name != UNLIKE}
    return hashlib.sha256(json.dumps(parents, sort_keys=True, default=str).encode()).hexdigest()


def _finished(out: Path, provenance: Mapping[str, Any]) -> FeatureTable | None:
    if not out.is_file():
        return None
    try:
        table = FeatureTable.read(out)
    except StaleError:
        return None
    return table if table.provenance and _key(table.provenance) == _key(provenance) else None


def _open_parts(out: Path, provenance: Mapping[str, Any]) -> Path:
    parts = _parts(out)
    label = parts / "parents.txt"
    if parts.is_dir() and not (label.is_file() and label.read_text() == _key(provenance)):
        shutil.rmtree(parts)
    make_folder(parts)
    write_atomic(label, _key(provenance))
    return parts


def _parts(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")
