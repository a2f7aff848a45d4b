"""What a benchmark compares: rows (methods), encoders, folds and seeds, read from configs/benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from medssl.checks import Count, Fraction, Processes, Seed, Spacing, nearest
from medssl.documents.names import is_file, refuse_same, safe_name
from medssl.errors import RecipeError, UserError
from medssl.recipe.model import config_file, explain, load_recipe, read_yaml

FAIR = " + FairKL"
KNOWN = ("synthetic", "roi", "full")
DESIGNS = ("challenge", "sites", "split", "folds")
"""challenge: whole sites external, people of the others internal, as the OpenBHB challenge divides its rows. sites:
every site external in exactly one fold. split: the cohort's own, one fold. folds: its columns fold0, fold1, ..."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Synthetic(_Strict):
    """The synthetic cohort of a preset; see ``medssl cohort synth``."""

    subjects: Count
    sites: Count
    spacing: Spacing
    confounding: Fraction = 0.0
    seed: Seed = 0


class Quick(_Strict):
    """What ``--quick`` leaves: rows, encoders and designs by name, seeds, and further changes of the recipe."""

    rows: tuple[str, ...]
    encoders: tuple[str, ...]
    designs: tuple[str, ...]
    seeds: Count = 1
    changes: tuple[str, ...] = ()


class Preset(_Strict):
    """A benchmark.

    recipe: name of the recipe that all cells start from; changes, encoders, rows: overrides (``optim.lr=1e-3``) for
    all cells, per encoder and per row. only: encoder -> the rows that it is trained with, where not all.
    regularised: rows that also come with the overrides of ``fair_kl``. harmonized: rows whose features h and z are
    also scored after ComBat and after residualisation. synthetic: the cohort, or none where the caller gives a table.
    designs: name -> folds, of DESIGNS. seeds: of every design; design_seeds: of a design that has fewer. jobs:
    processes where the caller names no number (None: one per core).
    """

    title: str
    recipe: str
    synthetic: Synthetic | None = None
    changes: tuple[str, ...] = ()
    encoders: dict[str, tuple[str, ...]]
    rows: dict[str, tuple[str, ...]]
    only: dict[str, tuple[str, ...]] = {}
    fair_kl: tuple[str, ...] = ()
    regularised: tuple[str, ...] = ()
    harmonized: tuple[str, ...] = ()
    designs: dict[str, Count]
    seeds: Count = 3
    design_seeds: dict[str, Count] = {}
    jobs: Processes | None = None
    quick: Quick

    def reduced(self) -> Preset:
        """The preset that ``--quick`` runs. Errors: RecipeError where it leaves nothing to train."""
        q = self.quick
        for key, chosen in {"rows": q.rows, "encoders": q.encoders, "designs": q.designs}.items():
            if not chosen:
                raise RecipeError(
                    f"quick.{key} of '{self.title}' is empty, so nothing would be trained; name at least one"
                )
        return self.model_copy(
            update={
                "title": f"{self.title} (quick)",
                "changes": self.changes + q.changes,
                "rows": {name: self.rows[name] for name in q.rows},
                "encoders": {name: self.encoders[name] for name in q.encoders},
                "only": {e: tuple(r for r in rows if r in q.rows) for e, rows in self.only.items() if e in q.encoders},
                "designs": {name: self.designs[name] for name in q.designs},
                "regularised": tuple(name for name in self.regularised if name in q.rows),
                "harmonized": tuple(name for name in self.harmonized if name in q.rows),
                "seeds": q.seeds,
            }
        )

    def overrides(self, row: str, encoder: str) -> tuple[str, ...]:
        """All overrides of one row with one encoder."""
        plain = row.removesuffix(FAIR)
        return self.changes + self.encoders[encoder] + self.rows[plain] + (self.fair_kl if row != plain else ())

    def row_names(self, encoder: str) -> list[str]:
        """Rows of an encoder in the order of the table, each followed by its regularised twin."""
        rows = [name for name in self.rows if name in self.only.get(encoder, self.rows)]
        return [name + twin for name in rows for twin in ("", FAIR) if not twin or name in self.regularised]

    def seeds_of(self, design: str) -> int:
        """Seeds of a design."""
        return min(self.seeds, self.design_seeds.get(design, self.seeds))


@dataclass(frozen=True)
class Cell:
    """One training: row, encoder, design and number of its fold, seed."""

    row: str
    encoder: str
    design: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Folder of the cell."""
        return f"{self.design}{self.fold}-{self.encoder}-{_plain(self.row)}-seed{self.seed}"


def _plain(row: str) -> str:
    """The name of a row in file names."""
    return "".join(c if c.isalnum() else "-" for c in row.lower())


def cells(preset: Preset) -> Iterator[Cell]:
    """Every training of a preset, design by design and seed by seed: what is interrupted has whole seeds."""
    for design, folds in preset.designs.items():
        for seed in range(preset.seeds_of(design)):
            for fold in range(folds):
                for encoder in preset.encoders:
                    for row in preset.row_names(encoder):
                        yield Cell(row, encoder, design, fold, seed)


def load_preset(name: str) -> Preset:
    """A preset by the name of its file in configs/benchmark (without openbhb-) or by a path; all rows are checked.

    Raises RecipeError for an unknown name, key, row or encoder.
    """
    path = Path(name) if is_file(name) else config_file("benchmark", f"openbhb-{name}")
    if path is None:
        raise RecipeError(f"there is no benchmark preset '{name}'; known: {', '.join(KNOWN)}, or a YAML file")
    content = read_yaml(path)
    try:
        preset = Preset.model_validate(content)
    except ValidationError as problem:
        raise RecipeError(f"{path}: {explain(problem, content, Preset)}") from None
    _refuse_names(preset, str(path))
    named = {
        "regularised": preset.regularised,
        "harmonized": preset.harmonized,
        "quick.rows": preset.quick.rows,
        **{f"only.{encoder}": rows for encoder, rows in preset.only.items()},
    }
    for key, names in named.items():
        for one in names:
            if one not in preset.rows:
                raise RecipeError(f"{path}: {key} names '{one}', which is no row; {nearest(one, preset.rows)}")
    for one in (*preset.quick.encoders, *preset.only):
        if one not in preset.encoders:
            raise RecipeError(f"{path}: '{one}' is no encoder; {nearest(one, preset.encoders)}")
    for design in (*preset.designs, *preset.quick.designs, *preset.design_seeds):
        if design not in DESIGNS or design not in preset.designs:
            raise RecipeError(f"{path}: design '{design}' must be one of {', '.join(DESIGNS)}, and stand in designs")
    for encoder in preset.encoders:
        for row in preset.row_names(encoder):
            load_recipe(preset.recipe, preset.overrides(row, encoder))
    for key, chosen in {"encoders": preset.encoders, "rows": preset.rows, "designs": preset.designs}.items():
        if not chosen:
            raise RecipeError(f"{path}: {key} is empty, so nothing would be trained; name at least one")
    return preset


def _refuse_names(preset: Preset, where: str) -> None:
    """RecipeError for names of encoders and rows that cells cannot be named after, or that would name the same cell."""
    rows = [name + twin for name in preset.rows for twin in ("", FAIR)]
    try:
        for encoder in preset.encoders:
            safe_name(encoder, f"{where}: the encoder")
            for row in rows:
                safe_name(Cell(row, encoder, "challenge", 0, 0).name, f"{where}: the cell")
        refuse_same(preset.encoders, f"{where}: the encoder")
        refuse_same(rows, f"{where}: the row", _plain)
    except UserError as problem:
        raise RecipeError(str(problem)) from None
