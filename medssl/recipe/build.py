"""From a recipe to the parts of a training: checked, then the cohort, then its scans, then what is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from medssl.data.loading.contents import Began, Contents
from medssl.data.loading.dataset import ScanDataset, TableDataset
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import Columns
from medssl.data.volumes.preprocess import Preprocessing
from medssl.distributed import say, say_leaks
from medssl.encoders import build_encoder
from medssl.environment import origin
from medssl.errors import ManifestError, RecipeError
from medssl.methods.base import Method
from medssl.recipe.catalog import add_regularizers, build_method
from medssl.recipe.check import check_recipe
from medssl.recipe.cohort import TrainingCohort, names_of, read_cohort, training_facts
from medssl.recipe.model import Recipe, views_of
from medssl.recipe.rehearsal import rehearse
from medssl.recipe.scans import TrainingScans, prepare_scans
from medssl.training.hardware.shards import refuse_shards
from medssl.types import Facts
from medssl.views.policies import WITHOUT_PLACE, Policy, build_policy
from medssl.views.table import build_views


@dataclass(frozen=True)
class Assembly:
    """Everything that a training needs, built from one recipe; impossible ages of ``cohort`` are emptied.

    info: what run.json says of it. balance: see ``TrainingCohort``. contents, marks: see ``TrainingScans``.
    """

    recipe: Recipe
    cohort: Cohort
    preprocessing: Preprocessing
    dataset: ScanDataset
    method: Method
    train_rows: np.ndarray
    info: dict[str, Any]
    columns: Columns | None = None
    balance: np.ndarray | None = None
    contents: Contents | None = None
    marks: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()  # notes on people, families and scans that may be one under two names


def assemble(recipe: Recipe, progress: bool = True, began: Began | None = None) -> Assembly:
    """Check the recipe, read the cohort, fill the cache, build encoder, method and views.

    began: the run that is continued, whose manifests and scans must be those of before. Errors: UserError, see
    ``check_recipe``, ``read_cohort`` and ``prepare_scans``; RecipeError for views, an encoder or a method that do not
    suit the scans or the columns, before a scan is read.
    """
    check_recipe(recipe)
    people = read_cohort(recipe, began)
    say(people.notes, progress)
    preprocessing = Preprocessing.from_dict(recipe.data.preprocessing.model_dump())
    policy = replace(build_policy(recipe.views.policy), dtype=getattr(torch, recipe.views.products))
    fits = partial(_refuse_parts, recipe, people, policy)
    scans = prepare_scans(recipe, people, preprocessing, fits, began, progress)
    say_leaks((*people.leaks, *scans.notes), progress)
    torch.manual_seed(recipe.trainer.seed)
    method = _build(recipe, replace(people.facts, shape=tuple(scans.shape)))
    return Assembly(
        recipe,
        people.cohort,
        preprocessing,
        _dataset(recipe, people, scans, preprocessing, policy, method),
        method,
        people.rows,
        _info(recipe, people, scans, policy),
        people.columns,
        people.balance,
        scans.contents,
        scans.marks,
        (*people.leaks, *scans.notes),
    )


def _dataset(
    recipe: Recipe,
    people: TrainingCohort,
    scans: TrainingScans,
    preprocessing: Preprocessing,
    policy: Policy,
    method: Method,
) -> ScanDataset:
    """The scans, or rows of the table, as the method is shown them."""
    maker = build_views(views_of(recipe), policy, wants=method.wants, seed=recipe.trainer.seed)
    late = views_are_late(recipe)
    if scans.cache is not None:
        return ScanDataset(
            scans.files, scans.cache, preprocessing, people.meta, maker, policy.clean, scans.keys, late=late
        )
    assert people.columns is not None
    assert scans.values_NF is not None
    measures = set(people.columns.names) - set(method.reads)  # which are the example itself, and no label
    meta = {name: column for name, column in people.meta.items() if name not in measures}
    return TableDataset(scans.values_NF, meta, maker, policy.clean, late=late)


def _info(recipe: Recipe, people: TrainingCohort, scans: TrainingScans, policy: Policy) -> dict[str, Any]:
    """What run.json says of a training before it begins."""
    columns = {} if people.columns is None else people.columns.facts
    return origin() | {
        "seed": recipe.trainer.seed,
        "method": recipe.method.name,
        "hashes": {"recipe": recipe.digest, "manifest": people.digest, "scans": scans.files_digest},
        "contents": None if scans.contents is None else scans.contents.digest,
        "training": training_facts(people.cohort, people.rows) | columns,
        "views": policy.to_list(),
    }


def _build(recipe: Recipe, facts: Facts) -> Method:
    """Encoder, method and regularisers of a recipe."""
    encoder = build_encoder(
        recipe.encoder.name, in_channels=facts.shape[0], shape=facts.shape[1:], **recipe.encoder.arguments
    )
    method = build_method(recipe.method.name, encoder, facts, recipe.method.arguments)
    add_regularizers(method, recipe.method.name, facts, [(r.name, r.arguments) for r in recipe.regularizers])
    return method


def _refuse_parts(recipe: Recipe, people: TrainingCohort, policy: Policy, shape: Sequence[int]) -> None:
    """Refuse views, encoder and method that do not suit scans of this shape or the columns, while none is read."""
    _refuse_places(policy, shape)
    maker = build_views(views_of(recipe), policy)
    sharded = recipe.trainer.strategy == "fsdp"
    method = rehearse(partial(_build, recipe, replace(people.facts, shape=tuple(shape))), sharded)
    for view in dict.fromkeys(maker.shapes(tuple(shape))):
        method.encoder.accept(view[1:])  # type: ignore[operator]
    if sharded:
        refuse_shards(method)
    for column in method.reads:
        if not np.isfinite(people.facts.labels.get(column, np.full(1, np.nan))).any():
            raise ManifestError(
                f"{names_of(people.cohort)}: no training row has a value in column '{column}', but "
                f"{recipe.method.name} reads it; fill the column, or choose a method that reads no labels, such as "
                f"simclr"
            )


def _refuse_places(policy: Policy, shape: Sequence[int]) -> None:
    """Refuse transforms of space on values that have no place: regional measures, surfaces, tables."""
    wrong = [slot.transform.name for slot in policy.slots if slot.transform.name not in WITHOUT_PLACE]
    if wrong and tuple(shape[2:]) == (1, 1):
        raise RecipeError(
            f"the views ({policy.name}) would {wrong[0]} values that have no place in space; set views.policy=table, "
            f"or use only {', '.join(WITHOUT_PLACE)}"
        )


def views_are_late(recipe: Recipe) -> bool:
    """Whether views are made on the device of the training instead of in the loader."""
    cuda = torch.cuda.is_available() and recipe.trainer.accelerator != "cpu"
    return recipe.views.device == "device" or (recipe.views.device == "auto" and cuda)
