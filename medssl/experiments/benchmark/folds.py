"""Manifests of the folds of a benchmark: one file per fold, with its split and with age in bins for SupCon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import chosen_columns
from medssl.data.manifest.folds import challenge_folds
from medssl.data.manifest.twins import with_copies
from medssl.distributed import say
from medssl.errors import ManifestError, UserError
from medssl.experiments.benchmark.preset import Preset
from medssl.files import write_atomic
from medssl.recipe.ages import refuse_other_unit
from medssl.recipe.model import load_recipe
from medssl.tables.age_use import RULE, impossible
from medssl.tables.people import COPY, groups_of

BIN_YEARS = 2.0
"""SupCon's classes: ages rounded up to even years, as in the published code (openbhb.md, section 4.2)."""


def fold_manifests(manifest: Path, preset: Preset, out: Path, progress: bool = True) -> dict[tuple[str, int], Path]:
    """Write OUT/folds/DESIGN-K.csv for every design and fold; (design, fold) -> path. Same input, same folds."""
    columns = load_recipe(preset.recipe, preset.changes).data.columns
    cohort = Cohort.read(manifest, images=columns is None)
    say(cohort.notes, progress)
    _refuse_ages(cohort)
    table = cohort.table.copy()
    if columns is not None:  # what no cell reads would be parsed by each, and carried through every batch
        named = preset.model_dump_json()
        idle = set(chosen_columns(cohort, ["*"])) - set(chosen_columns(cohort, columns))
        table = table.drop(columns=[name for name in idle if name not in named])
    if "site" not in table or (table["site"] == "").all():
        raise UserError(f"{manifest} names no sites, so there is nothing to hold out; fill the column site")
    together = table.assign(**{COPY: with_copies(cohort, columns)[COPY]})
    written: dict[tuple[str, int], Path] = {}
    splits = {design: _splits(together, design, folds, manifest) for design, folds in preset.designs.items()}
    for design in preset.designs:
        for fold, split in enumerate(splits[design]):
            bins = np.ceil(table["age"] / BIN_YEARS) * BIN_YEARS
            made = table.drop(columns=["manifest", "row", "weight"]).copy().assign(split=split, age_bin=bins)
            path = out / "folds" / f"{design}-{fold}.csv"
            text = made.to_csv(index=False, lineterminator="\n")
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_atomic(path, text)
            written[design, fold] = path
    return written


def _refuse_ages(cohort: Cohort) -> None:
    """ManifestError for ages in another unit and for impossible ones, which every design would score."""
    refuse_other_unit(cohort, cohort.rows())
    for row in impossible(cohort.table["age"].to_numpy(dtype=float)):
        age = cohort.table["age"].iloc[row]
        raise ManifestError(f"{cohort.where(int(row))}: age {age:g} {RULE}; correct it, or leave it empty")


def _splits(table: pd.DataFrame, design: str, folds: int, manifest: Path) -> list[pd.Series]:
    if design == "split":
        if (table["split"] == "").all():
            raise UserError(f"{manifest} has no split; use another design, or `medssl cohort split`")
        return [table["split"]]
    if design == "folds":
        names = [f"fold{k}" for k in range(folds)]
        if missing := [name for name in names if name not in table or not table[name].astype(str).str.strip().any()]:
            raise UserError(f"{manifest} has no {missing[0]}, which the design folds reads; see `medssl cohort scan`")
        return [table[name] for name in names]
    bare = table.drop(columns=["split"])
    if design == "challenge":
        made = challenge_folds(bare, folds)
        return [made[name] for name in made.columns]
    return _every_site_once(bare, folds)


def _every_site_once(table: pd.DataFrame, folds: int) -> list[pd.Series]:
    """Sites in groups of about equal numbers of people, each group external once; a tenth of the rest is internal.

    A family counts as one person (see :func:`medssl.data.manifest.folds.split_cohort`).
    """
    whole = pd.Series(groups_of(table, copies=True), index=table.index)
    sizes = whole.groupby(table["site"]).nunique().sort_values(ascending=False, kind="stable")
    if len(sizes) < folds + 1:
        raise UserError(f"{len(sizes)} sites cannot be held out in {folds} groups; lower the number of folds")
    load, group = np.zeros(folds), {}
    for site, size in sizes.items():
        place = int(np.argmin(load))
        group[site], load[place] = place, load[place] + size
    held = table["site"].map(group).to_numpy()
    splits = []
    for fold in range(folds):
        split = np.where(held == fold, "external_test", "train").astype(object)
        rest = table[held != fold].sort_values(["site", "age", "subject"], kind="stable")
        people = whole[rest.index].drop_duplicates().to_numpy()
        inner = set(people[fold % 10 :: 10])
        split[(held != fold) & whole.isin(inner).to_numpy()] = "internal_test"
        abroad = set(whole[held == fold])
        split[(held != fold) & whole.isin(abroad).to_numpy()] = ""
        splits.append(pd.Series(split, index=table.index))
    return splits
