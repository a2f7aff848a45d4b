"""Encoder + manifest -> features table, in parts that survive an interruption."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from medssl.data.cache import VolumeCache
from medssl.data.columns import Columns
from medssl.data.dataset import ScanDataset, TableDataset, plain_batches
from medssl.data.manifest import Cohort
from medssl.data.preprocess import Preprocessing
from medssl.errors import StaleError, UserError
from medssl.features.files import check_target
from medssl.features.table import FOLDS, FeatureTable
from medssl.files import exclusive, make_folder, write_atomic

PART = 256
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
) -> FeatureTable:
    """Embed every row of a cohort and write the table.

    encoder: set to eval mode here. head: maps pooled features (N, E) to z (N, D); without one the encoder's pooled
    output h is written. columns: features of a table that are embedded instead of images. clean: applied to every
    preprocessed volume (``Policy.clean``). provenance: names of the parents (encoder, manifest, recipe); parts of an
    interrupted run are reused only where they have the same parents, and a finished table of the same parents is
    returned as it is.
    Raises UserError for a scan that cannot be read or that gives features that are no numbers.
    """
    check_target(out)
    kept = _finished(out, provenance)
    if kept is not None:
        return kept
    if columns is not None:
        dataset: ScanDataset = TableDataset(columns.matrix(cohort), {}, None, clean)
    else:
        cache = cache or VolumeCache(None)
        everyone = cohort.rows()
        files = cohort.files(everyone, images)
        made = cache.prepare(files, preprocessing, workers=None, progress=progress, where=cohort.names(everyone))
        dataset = ScanDataset(files, cache, preprocessing, {}, None, clean, made.keys)
    encoder = encoder.to(device).eval()
    head = head.to(device).eval() if head is not None else None

    def forward(x: Tensor) -> Tensor:
        h = encoder(x).pooled
        return h if head is None else head(h)

    with exclusive(out.with_name(f".{out.name}.lock"), str(out)):
        matrix = _in_parts(forward, dataset, cohort, out, provenance, device, batch, workers, progress)
        table = FeatureTable(cohort.table[_kept(cohort, columns)], matrix, dict(provenance))
        table.write(out)
        shutil.rmtree(_parts(out))
    return table


def _kept(cohort: Cohort, columns: Columns | None) -> list[str]:
    """Columns that travel into a features table: what is known of a scan, and the user's own, but no input."""
    inputs = {"manifest", "row", "weight", "mask", *(columns.names if columns is not None else ())}
    own = [str(c) for c in cohort.table if c not in (*_META, *inputs) and not str(c).startswith("image")]
    return [*(c for c in _META if c in cohort.table), *own]


def _in_parts(
    forward: Callable[[Tensor], Tensor],
    dataset: ScanDataset,
    cohort: Cohort,
    out: Path,
    provenance: Mapping[str, Any],
    device: str,
    batch: int,
    workers: int,
    progress: bool,
) -> np.ndarray:
    """Features of every row (N, D), each part of which is on the disk as soon as it is made."""
    parts = _open_parts(out, provenance)
    starts = range(0, len(cohort.table), PART)
    lacking = [start for start in starts if not (parts / f"part-{start:08d}.npy").is_file()]
    ranges = [np.arange(start, min(start + PART, len(cohort.table))) for start in lacking]
    done = _embedded(forward, dataset, ranges, device, batch, workers)
    quiet = not (progress and os.isatty(2))
    for start, rows, values in track(
        zip(lacking, ranges, done, strict=True), "embedding", len(lacking), disable=quiet, console=_stderr()
    ):
        part = parts / f"part-{start:08d}.npy"
        bad = rows[~np.isfinite(values.numpy()).all(1)]
        if len(bad):
            raise UserError(
                f"{cohort.where(int(bad[0]))}: its features are not finite ({len(bad)} scans in all); run "
                f"`medssl cohort check` and compare its preprocessing with the encoder's"
            )
        write_atomic(part, partial(np.save, arr=values.numpy()))
    return np.concatenate([np.load(parts / f"part-{s:08d}.npy", allow_pickle=False) for s in starts])


def _embedded(
    forward: Callable[[Tensor], Tensor],
    dataset: ScanDataset,
    ranges: list[np.ndarray],
    device: str,
    batch: int,
    workers: int,
) -> Iterator[Tensor]:
    """Features of every range of rows, read ahead across them; no batch spans two."""
    batches = [rows[i : i + batch] for rows in ranges for i in range(0, len(rows), batch)]
    with plain_batches(dataset, batches, workers) as items:
        for rows in ranges:
            with torch.no_grad():
                out = [forward(next(items)["views"][0].to(device)).float().cpu() for _ in range(0, len(rows), batch)]
            yield torch.cat(out)


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _key(provenance: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(provenance), sort_keys=True, default=str).encode()).hexdigest()


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
