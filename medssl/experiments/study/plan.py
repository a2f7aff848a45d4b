"""What a study compares: a recipe, the settings that vary, and the score on a part held out of its training rows."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medssl.checks import Count, Flag, Interval, Number, Seed, Share, fault, nearest, short
from medssl.documents.names import is_file
from medssl.errors import RecipeError
from medssl.evaluation.intervals import METRICS
from medssl.experiments.benchmark.preset import Synthetic
from medssl.recipe.model import Recipe, config_file, explain, load_recipe, read_yaml
from medssl.recipe.overrides import assigned

SEED = "trainer.seed"
OWNED = ("data.manifest", "data.manifests", "data.cache", "output", "trainer.devices", "trainer.nodes")
"""Keys of a recipe that the study itself sets, so that no trial may."""
Settings = dict[str, Any]
"""The values of one trial, by dotted key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Validation(_Strict):
    """What is held out of the train rows to choose by: shares of people in whole sites, and of the people that stay."""

    sites: Share = 0.2
    people: Share = 0.2
    seed: Seed = 0

    @model_validator(mode="after")
    def _something(self) -> Validation:
        if self.sites + self.people == 0:
            raise ValueError("sites and people are both 0, so nothing is left to choose by; set one above 0")
        return self


class Range(_Strict):
    """Numbers from low to high, both included; whole ones where both are whole. log: equal shares per factor."""

    low: Number
    high: Number
    log: Flag = False
    step: Annotated[int | float, Interval(0, above=True)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} must be above 0 where log is true")
        if self.log and self.step is not None:
            raise ValueError("log and step cannot both be set; leave one out")
        return self


class Search(_Strict):
    """A search by Optuna. seed: of the sampler. seeds: every proposal is trained once per seed, their mean counts.

    space: dotted key -> a list to choose from, or ``{low, high, log, step}``.
    """

    sampler: Literal["tpe", "random"] = "tpe"
    trials: Count
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()
    space: dict[str, Any]


class Study(_Strict):
    """A study. recipe: a file or a catalogue name; changes: overrides (``optim.lr=1e-3``) of all trials.

    grid: dotted key -> values, all combinations; or search. synthetic: the cohort, or none where the recipe names a
    manifest. score: metric of the validation part that is optimised. test: also report the cohort's own test rows,
    which choose nothing.
    """

    title: str = "Study"
    recipe: str
    synthetic: Synthetic | None = None
    changes: tuple[str, ...] = ()
    grid: dict[str, Any] | None = None
    search: Search | None = None
    score: Literal[METRICS] = "challenge"  # type: ignore[valid-type]
    validation: Validation = Field(default_factory=lambda: Validation.model_validate({}))
    test: Flag = False

    @property
    def swept(self) -> tuple[str, ...]:
        """Dotted keys that differ between trials."""
        if self.search is None:
            return tuple(self.grid or {})
        return (*self.search.space, *([SEED] if self.search.seeds else []))

    @property
    def greater_is_better(self) -> bool:
        """Direction of the score."""
        return self.score.startswith("r2")

    def trials(self) -> list[Settings]:
        """All combinations of the grid, the last key fastest; empty for a search."""
        values = self.grid or {}
        return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())] if values else []

    @property
    def count(self) -> int:
        """Combinations of the grid, or proposals of the search."""
        return len(self.trials()) if self.search is None else self.search.trials

    def recipe_of(self, settings: Mapping[str, Any], further: tuple[str, ...] = ()) -> Recipe:
        """The recipe of a trial on one device; RecipeError naming the setting that does not fit."""
        values = tuple(assigned(key, value) for key, value in settings.items())
        return load_recipe(self.recipe, [*self.changes, *values, "trainer.devices=1", *further])

    def identity(self, cohort: str) -> str:
        """sha256 over what makes scores comparable: recipe, cohort, validation and swept keys, not their values."""
        recipe = load_recipe(self.recipe, self.changes).to_dict()
        recipe.pop("output")
        for place in ("manifest", "manifests", "cache"):
            recipe["data"].pop(place)
        parts = [recipe, cohort, self.validation.model_dump(), sorted(self.swept)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def shown(value: Any) -> str:
    """A value for people: numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def trial_name(settings: Mapping[str, Any]) -> str:
    """Folder of a trial: its values, shortened, and a digest that tells equal-looking ones apart.

    >>> trial_name({"method.temperature": 0.1, "trainer.seed": 2})
    'temperature0.1-seed2-520b9ef5'
    """
    words = [f"{key.rpartition('.')[2]}{shown(value)}" for key, value in settings.items()]
    plain = "-".join("".join(c for c in word if c.isalnum() or c in ".+-") for word in words)
    text = json.dumps(dict(settings), sort_keys=True)
    return f"{plain[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def load_study(name: str | Path, data: str | Path | None = None) -> Study:
    """A study by its file, or by the name of one in configs/study; every value of a grid is checked.

    data: a manifest instead of the recipe's. Raises RecipeError for an unknown key (with the nearest one), a value
    that the recipe refuses, or where no cohort is named.
    """
    path = Path(name) if is_file(name) else config_file("study", str(name))
    if path is None:
        raise RecipeError(f"there is no study '{name}'; give a YAML file, or one of demo, search (configs/study)")
    content = read_yaml(path)
    beside = path.parent / str(content.get("recipe"))
    if is_file(beside):
        content["recipe"] = str(beside.absolute())
    return parse_study(content, str(path), data)


def parse_study(content: Mapping[str, Any], where: str, data: str | Path | None = None) -> Study:
    """Check a study given as plain values."""
    try:
        study = Study.model_validate(dict(content))
    except ValidationError as problem:
        raise RecipeError(f"{where}: {explain(problem, content, Study)}") from None
    if (study.grid is None) == (study.search is None):
        how = "both grid and search" if study.grid is not None else "neither grid nor search"
        raise RecipeError(f"{where}: the study has {how}; write one of them")
    if data is not None:
        if study.synthetic is not None:
            raise RecipeError(f"{where}: the study makes its own cohort (synthetic), so leave out --data")
        study = study.model_copy(update={"changes": (*study.changes, assigned("data.manifest", Path(data).absolute()))})
    try:
        return _checked(study)
    except RecipeError as problem:
        raise RecipeError(f"{where}: {problem}") from None


def _checked(study: Study) -> Study:
    """The study where its values suit the recipe."""
    base = load_recipe(study.recipe, study.changes)
    if base.output != load_recipe(study.recipe).output:
        raise RecipeError("'output' is set by the study itself; leave it out of the changes, and give -o FOLDER")
    if study.synthetic is None and not base.data.sources:
        raise RecipeError("no cohort is named; give --data MANIFEST, or data.manifest=PATH in changes")
    for key, value in (study.grid if study.search is None else study.search.space).items():  # type: ignore[union-attr]
        if key in OWNED:
            raise RecipeError(f"'{key}' is set by the study itself; leave it out")
        if isinstance(value, list) and not value:
            raise RecipeError(f"'{key}' has an empty list of values; write some, or leave it out")
        if not isinstance(value, list) and not (study.search is not None and isinstance(value, dict)):
            form = "a list of values" if study.search is None else "a list, or low and high,"
            raise RecipeError(f"'{key}' is {short(value)}, but {form} is needed; write [{short(value)}]")
    if study.search is not None and study.search.seeds and SEED in study.search.space:
        raise RecipeError(f"both search.seeds and search.space name seeds; leave '{SEED}' out of the space")
    if not study.swept:
        raise RecipeError("nothing varies; name at least one key with its values")
    if study.search is not None and not study.search.space:
        raise RecipeError("search.space is empty; name at least one key with its values")
    for settings in study.trials() or _corners(study):
        study.recipe_of(settings)
    return study


def _corners(study: Study) -> Iterator[Settings]:
    """Settings of a search that use every listed value and both ends of every range at least once."""
    values = {key: ends(key, value) for key, value in study.search.space.items()}  # type: ignore[union-attr]
    for place in range(max(len(each) for each in values.values())):
        yield {key: each[min(place, len(each) - 1)] for key, each in values.items()}


def ends(key: str, value: Any) -> list[Any]:
    """The listed values of a dimension, or the two ends of its range."""
    return [one.low, one.high] if isinstance(one := dimension(key, value), Range) else one


def dimension(key: str, value: Any) -> Range | list[Any]:
    """One dimension of a search; RecipeError for a range with an unknown key or impossible ends."""
    if isinstance(value, list | tuple):
        return list(value)
    unknown = [name for name in value if name not in Range.model_fields]
    if unknown:
        raise RecipeError(f"unknown key '{key}.{unknown[0]}'; {nearest(str(unknown[0]), list(Range.model_fields))}")
    try:
        return Range.model_validate(value)
    except ValidationError as problem:
        where, given, rule = fault(problem, value)
        raise RecipeError(f"'{'.'.join([key, *where])}' is {short(given)}, but {rule}") from None
