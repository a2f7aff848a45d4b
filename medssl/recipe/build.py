"""From a recipe to the parts of a training."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import default_collate

from medssl.data.loading.batches import EpochBatches
from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.contents import Began, Contents
from medssl.data.loading.dataset import ScanDataset, TableDataset
from medssl.data.loading.leaks import held_out_marks, refuse_copies, refuse_table_copies
from medssl.data.manifest.cohort import Cohort, Images
from medssl.data.manifest.columns import Columns
from medssl.data.manifest.groups import refuse_leaks
from medssl.data.manifest.spellings import spelling_notes
from medssl.data.synthetic.mark import synthetic_rows
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import Stamps, summary
from medssl.distributed import process_is_first
from medssl.encoders import build_encoder
from medssl.encoders.file import weights_digest
from medssl.environment import origin
from medssl.errors import ManifestError, RecipeError, UserError, VolumeError, shown
from medssl.files import in_turn, write_atomic
from medssl.heads.file import save_head
from medssl.methods.base import Method
from medssl.recipe.ages import usable_ages
from medssl.recipe.catalog import add_regularizers, build_method
from medssl.recipe.model import Recipe
from medssl.recipe.rehearsal import rehearse
from medssl.tables.people import COPY
from medssl.training.hardware.device import processes, refuse_machine
from medssl.training.hardware.shards import refuse_shards
from medssl.training.monitors import tensorboard_writer
from medssl.types import Facts
from medssl.views.pair import ViewMaker
from medssl.views.policies import WITHOUT_PLACE, Policy, build_policy

_TOLD: set[str] = set()
"""Notes on possible leaks that this process has printed."""
_NOT_LABELS = frozenset({"participant_id", "session", "split", "weight", "manifest", "row", "subject", "unlike", COPY})
_CODES = ("sex", "site", "dataset", "diagnosis", "subject")


@dataclass(frozen=True)
class Assembly:
    """Everything that a training needs, built from one recipe; impossible ages of ``cohort`` are emptied."""

    recipe: Recipe
    cohort: Cohort
    preprocessing: Preprocessing
    dataset: ScanDataset
    method: Method
    train_rows: np.ndarray
    info: dict[str, Any]
    columns: Columns | None = None
    balance: np.ndarray | None = None  # codes of all rows that every batch holds alike, -1 where there is none
    contents: Contents | None = None  # of the training scans; None for a table
    marks: tuple[str, ...] = ()  # of the training scans, see medssl.data.manifest.copies
    leaks: tuple[str, ...] = ()  # notes on people, families and scans that may be one under two names

    def save_projection(self, path: Path) -> str | None:
        """Keep the projector beside the encoder, where the method has one (``medssl embed --projection``); its hash."""
        projector = getattr(self.method, "projector", None)
        if projector is None:
            return None
        save_head(projector.cpu(), path, normalise=self.method.normalised)
        return weights_digest(projector)


def assemble(recipe: Recipe, progress: bool = True, began: Began | None = None) -> Assembly:
    """Read the cohort, fill the cache, build encoder, method and views.

    began: the run that is continued, whose manifest and scans must be those of before.
    Raises UserError for an empty training split, a missing label column, unequal shapes, unreadable or other scans.
    """
    if not recipe.data.sources:
        raise UserError("no manifest is given; set data.manifest=PATH (`medssl cohort scan ROOT -o PATH` makes one)")
    if recipe.trainer.tensorboard:
        tensorboard_writer()  # said now, not after the scans are read and the run folder is made
    cohort = Cohort.read(recipe.data.sources, images=recipe.data.columns is None)
    if began is not None:
        began.same_manifest(cohort.digest)
    rows = cohort.rows("train")
    if not len(rows):
        raise ManifestError(f"{_names(cohort)}: no row has split 'train'; mark training scans in the column split")
    number, accumulate = processes(recipe.trainer), recipe.trainer.accumulate
    EpochBatches(rows, recipe.data.batch_size, recipe.trainer.seed, processes=number, accumulate=accumulate)
    balance = _balance(cohort, rows, recipe)
    preprocessing = Preprocessing.from_dict(recipe.data.preprocessing.model_dump())
    refuse_leaks(cohort)
    _refuse_options(recipe)
    table, said = usable_ages(cohort, rows, recipe)
    say((*cohort.notes, *said), progress)
    leaks = spelling_notes(cohort)
    stamps = Stamps()
    columns = None if recipe.data.columns is None else Columns.fit(cohort, rows, recipe.data.columns)
    aged = cohort if table is cohort.table else replace(cohort, table=table)
    labels, meta, coded = _columns(aged, rows)
    facts = Facts(len(cohort.table), rows, recipe.data.batch_size * number, (), labels, coded)
    policy = replace(build_policy(recipe.views.policy), dtype=getattr(torch, recipe.views.products))
    fits = partial(_refuse_parts, recipe, aged, facts, policy)
    if columns is None:
        dataset, shape, contents, marks, twice = _of_images(
            recipe, cohort, rows, preprocessing, progress, stamps, began, fits
        )
    else:
        values_NF, contents = columns.matrix(cohort), None
        dataset, shape = TableDataset(values_NF, {}), (1, len(columns.names), 1, 1)
        fits(shape)
        marks, twice = refuse_table_copies(cohort, rows, values_NF)
        if columns.filled and progress and process_is_first():
            print(f"{columns.filled} empty cells of the training rows become the mean of their column", file=sys.stderr)
    leaks += twice
    say_leaks(leaks, progress)
    torch.manual_seed(recipe.trainer.seed)
    method = _build(recipe, replace(facts, shape=tuple(shape)))
    if columns is not None:
        meta = {name: meta[name] for name in meta if name not in columns.names or name in method.reads}
    dataset.maker = ViewMaker(policy, n_views=method.views, targets=dict(method.wants), seed=recipe.trainer.seed)
    dataset.meta, dataset.clean, dataset.late = meta, policy.clean, views_are_late(recipe)
    info = origin() | {
        "seed": recipe.trainer.seed,
        "method": recipe.method.name,
        "hashes": {
            "recipe": recipe.digest,
            "manifest": cohort.digest,
            "scans": _files_digest([dataset.images[int(row)] for row in rows], False, stamps),
        },
        "contents": None if contents is None else contents.digest,
        "training": _training(aged, rows) | ({} if columns is None else columns.facts),
        "views": policy.to_list(),
    }
    found = (tuple(marks), tuple(leaks))
    return Assembly(recipe, aged, preprocessing, dataset, method, rows, info, columns, balance, contents, *found)


def _build(recipe: Recipe, facts: Facts) -> Method:
    """Encoder, method and regularisers of a recipe."""
    encoder = build_encoder(
        recipe.encoder.name, in_channels=facts.shape[0], shape=facts.shape[1:], **recipe.encoder.arguments
    )
    method = build_method(recipe.method.name, encoder, facts, recipe.method.arguments)
    add_regularizers(method, recipe.method.name, facts, [(r.name, r.arguments) for r in recipe.regularizers])
    return method


def _refuse_parts(recipe: Recipe, cohort: Cohort, facts: Facts, policy: Policy, shape: Sequence[int]) -> None:
    """Refuse views, encoder and method that do not suit scans of this shape or the columns, while none is read."""
    _refuse_places(policy, shape)
    sharded = recipe.trainer.strategy == "fsdp"
    method = rehearse(partial(_build, recipe, replace(facts, shape=tuple(shape))), sharded)
    if sharded:
        refuse_shards(method)
    for column in method.reads:
        if not np.isfinite(facts.labels.get(column, np.full(1, np.nan))).any():
            raise ManifestError(
                f"{_names(cohort)}: no training row has a value in column '{column}', but {recipe.method.name} reads "
                f"it; fill the column, or choose a method that reads no labels, such as simclr"
            )


def _refuse_options(recipe: Recipe) -> None:
    """Refuse what cannot be trained here while no scan is read and no run folder is made."""
    refuse_machine(recipe.trainer)
    number, method = processes(recipe.trainer), recipe.method
    if number > 1 and (method.name, method.arguments.get("variant")) == ("threshold", "isbi_code"):
        raise RecipeError(
            f"method.variant=isbi_code of threshold compares all scans in one process, but this training has {number}; "
            f"set trainer.devices=1, or method.variant=slide"
        )


def views_are_late(recipe: Recipe) -> bool:
    """Whether views are made on the device of the training instead of in the loader."""
    cuda = torch.cuda.is_available() and recipe.trainer.accelerator != "cpu"
    return recipe.views.device == "device" or (recipe.views.device == "auto" and cuda)


def _balance(cohort: Cohort, rows: np.ndarray, recipe: Recipe) -> np.ndarray | None:
    """Codes of the column that data.balance names; UserError where it balances nothing or weights stand against it."""
    name = recipe.data.balance
    if name is None:
        return None
    codes = np.nan_to_num(cohort.labels(name), nan=-1.0)
    if len(set(codes[rows])) < 2:
        raise ManifestError(f"{_names(cohort)}: every training row has the same '{name}'; leave out data.balance")
    if np.ptp(cohort.table["weight"].to_numpy(float)[rows]) > 0:
        raise UserError("data.balance and the column weight both say how often a scan is drawn; leave one of them out")
    return codes


def _of_images(
    recipe: Recipe,
    cohort: Cohort,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    progress: bool,
    stamps: Stamps,
    began: Began | None,
    fits: Callable[[tuple[int, ...]], None],
) -> tuple[ScanDataset, tuple[int, ...], Contents, list[str], list[str]]:
    """The training scans, preprocessed into the cache, their common shape, what their files hold, their marks, and
    notes on scans that are one image under two names.

    Scans of the test splits are prepared too where they can be, and compared: nothing else is done with them.
    fits: refuses a shape; asked with that of the first scan, by its header, before a scan is read.
    """
    cache = VolumeCache(recipe.data.cache, dtype=recipe.data.cache_dtype)
    used = cohort.files(rows, recipe.data.images)
    cohort.subset(rows).check_files(stamps)
    where = cohort.names(rows)
    with suppress(VolumeError):  # which the reading of all scans tells with the others
        fits(cache.common_shape(used[:1], preprocessing, where[:1]))
    bar = progress and process_is_first()
    before = None if began is None else began.contents
    if before is not None and began is not None:
        before = before.still(used, where, stamps, began.run, bar)
    several = processes(recipe.trainer) > 1  # one of them fills the cache, the others find it full
    with in_turn(cache.root / ".build.lock") if several else nullcontext():
        made = cache.prepare(used, preprocessing, workers=None, progress=bar, where=where, stamps=stamps)
        if before is not None and (stale := before.differing(made.sources)):  # of another file of this name and time
            cache.drop(made.keys[k] for k in stale)
            made = cache.prepare(used, preprocessing, workers=None, progress=bar, where=where, stamps=stamps)
        test, others, notes = held_out_marks(
            cohort, recipe.data.images, cache, preprocessing, most=len(rows), progress=bar, stamps=stamps
        )
    contents = before or Contents.of(used, made.sources, stamps)
    files: list[Images] = [()] * len(cohort.table)
    keys = [""] * len(cohort.table)
    for row, group, key in zip(rows, used, made.keys, strict=True):
        files[row], keys[row] = group, key
    dataset = ScanDataset(files, cache, preprocessing, {}, keys=keys)
    twice = [*refuse_copies(cohort, rows, made.marks, test, others), *notes]
    return dataset, made.shape, contents, made.marks, twice


def _refuse_places(policy: Policy, shape: Sequence[int]) -> None:
    """Refuse transforms of space on values that have no place: regional measures, surfaces, tables."""
    wrong = [slot.transform.name for slot in policy.slots if slot.transform.name not in WITHOUT_PLACE]
    if wrong and tuple(shape[2:]) == (1, 1):
        raise RecipeError(
            f"the views ({policy.name}) would {wrong[0]} values that have no place in space; set views.policy=table, "
            f"or use only {', '.join(WITHOUT_PLACE)}"
        )


def scans_digest(cohort: Cohort, rows: Iterable[int], images: Sequence[str], times: bool = False) -> str:
    """sha256 over names and sizes of the scans of these rows; with ``times`` also over when they were changed."""
    return _files_digest(cohort.files(np.fromiter(rows, dtype=int), images), times, Stamps())


def _files_digest(groups: Iterable[Images], times: bool, stamps: Stamps) -> str:
    sha = hashlib.sha256()
    for group in groups:
        for path in group:
            sha.update(f"{summary(path, times, stamps)}\n".encode())
    return sha.hexdigest()


def say(notes: Iterable[str], aloud: bool = True) -> None:
    """Print what was read otherwise than it stands there, in the first process alone."""
    if aloud and process_is_first():
        for note in notes:
            print(f"note: {shown(note)}", file=sys.stderr)


def say_leaks(notes: Iterable[str], aloud: bool = True) -> None:
    """Print notes on possible leaks, which --quiet does not hide: it is about bars.

    A process that trains quietly many times, as in a study, says each once.
    """
    fresh = [note for note in notes if aloud or note not in _TOLD]
    _TOLD.update(fresh)
    say(fresh)


def run_views(parts: Assembly, path: Path, scans: int = 4) -> None:
    """Middle slices of a few scans and their views, for the report: (scan, 1 + V, plane, H, W); none of tables."""
    if tuple(parts.dataset.volume(int(parts.train_rows[0])).shape[2:]) == (1, 1):
        return
    pictures, ages = [], []
    rows = parts.train_rows[np.linspace(0, len(parts.train_rows) - 1, min(scans, len(parts.train_rows))).astype(int)]
    for row in rows:
        volume = parts.dataset.volume(int(row))
        views = parts.dataset.finish(default_collate([parts.dataset[(int(row), 0)]]))["views"]
        pictures.append(np.stack([_planes(x.numpy()[0]) for x in (volume, *(v[0] for v in views))]))
        ages.append(float(parts.cohort.table["age"].iloc[int(row)]))
    arrays = {"slices": np.stack(pictures).astype(np.float32), "ages": np.array(ages), "rows": rows}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def _planes(x_DHW: np.ndarray) -> np.ndarray:
    side = max(x_DHW.shape)
    planes = [np.take(x_DHW, x_DHW.shape[axis] // 2, axis).T[::-1] for axis in range(3)]
    out = np.full((3, side, side), float(x_DHW.min()), np.float32)
    for place, plane in zip(out, planes, strict=True):
        top, left = (side - plane.shape[0]) // 2, (side - plane.shape[1]) // 2
        place[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    return out


def _names(cohort: Cohort) -> str:
    return ", ".join(str(p) for p in cohort.paths)


def _columns(cohort: Cohort, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Tensor], frozenset[str]]:
    """Labels of the training rows (NaN elsewhere), the columns that batches carry, and which of them hold names."""
    labels, meta, names = {}, {}, set()
    inside = np.zeros(len(cohort.table), bool)
    inside[rows] = True
    for name in cohort.table.columns:
        if (name in _NOT_LABELS and name != "subject") or str(name).startswith("image"):
            continue
        values = cohort.labels(name)
        coded = name in _CODES or not pd.api.types.is_numeric_dtype(cohort.table[name])
        if coded:
            names.add(str(name))
            meta[name] = torch.from_numpy(np.where(np.isnan(values), -1, values).astype(np.int64))
        else:
            meta[name] = torch.from_numpy(values.astype(np.float32))
        if name != "subject":
            labels[name] = np.where(inside, values, np.nan)
    return labels, meta, frozenset(names)


def _training(cohort: Cohort, rows: np.ndarray) -> dict[str, Any]:
    part = cohort.table.iloc[rows]
    sites = sorted(s for s in part["site"].unique() if s)
    per_site = [
        {"site": site, "n": len(group), "age": _span(group["age"])} for site, group in part.groupby("site") if site
    ]
    return {
        "scans": len(rows),
        "rows_in_manifests": len(cohort.table),
        "subjects": int(part["subject"].nunique()),
        "sites": sites,
        "per_site": per_site,
        "age": _span(part["age"]),
        "sex": {str(k): int(v) for k, v in part["sex"].value_counts().items() if k},
        "datasets": {str(k): int(v) for k, v in part["dataset"].value_counts().items()},
        "synthetic": synthetic_rows(part["dataset"], cohort.paths),
        "manifests": [str(p) for p in cohort.paths],
    }


def _span(ages: pd.Series) -> list[float] | None:
    """Least, median and greatest age; None where no age is known."""
    known = ages.dropna()
    return [float(known.min()), float(known.median()), float(known.max())] if len(known) else None
