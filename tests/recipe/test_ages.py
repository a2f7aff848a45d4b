from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.errors import ManifestError, UserError
from medssl.recipe.ages import _reads, usable_ages
from medssl.recipe.build import assemble
from medssl.recipe.catalog import CATALOG, entry
from medssl.recipe.model import Recipe, load_recipe
from medssl.runs.folder import Run
from medssl.runs.lineage import own_cohort, same_parents
from tests.conftest import tiny_recipe

Rewrite = Callable[[Callable[[pd.DataFrame], pd.DataFrame]], Path]


@pytest.fixture
def rewritten(cohort: Path, tmp_path: Path) -> Rewrite:
    """The cohort's manifest with changed rows, in another folder."""

    def write(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
        table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
        table["image"] = [str(cohort.parent / name) for name in table["image"]]
        change(table).to_csv(tmp_path / "manifest.csv", index=False)
        return tmp_path / "manifest.csv"

    return write


def one_age(age: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change of the first training row's age."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table.index[table["split"] == "train"][0], "age"] = age
        return table

    return change


def in_months(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(age=[f"{12 * float(age):.1f}" if age else "" for age in table["age"]])


def recipe(manifest: Path, method: str, *more: str) -> Recipe:
    return load_recipe(method, [*tiny_recipe(manifest, manifest.parent / "run", method), *more])


def no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a scan was read")

    monkeypatch.setattr(VolumeCache, "prepare", read)


@pytest.mark.oddity("age-unit-in-use")
@pytest.mark.parametrize("method", ["exponential", "simclr"])
def test_ages_in_months_are_refused_before_a_scan_is_read(method: str, rewritten: Rewrite, monkeypatch):
    no_scan(monkeypatch)
    with pytest.raises(
        ManifestError, match=r"manifest\.csv: \d+ ages.* look like months.* divide them by 12"
    ) as caught:
        assemble(recipe(rewritten(in_months), method), progress=False)
    assert "medssl cohort scan" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.oddity("age-unit-in-use")
def test_one_data_set_in_months_beside_a_large_one_in_years_is_found(rewritten: Rewrite, monkeypatch):
    no_scan(monkeypatch)

    def change(table: pd.DataFrame) -> pd.DataFrame:
        first = table.index[table["split"] == "train"][:2]
        table["dataset"] = "large"
        table.loc[first, ["dataset", "age"]] = [["babies", "130"], ["babies", "140"]]
        return table

    with pytest.raises(ManifestError, match=r"2 ages of babies \(130 to 140\) look like months"):
        assemble(recipe(rewritten(change), "simclr"), progress=False)


@pytest.mark.oddity("age-impossible-in-use")
@pytest.mark.parametrize(
    ("method", "more"),
    [("exponential", ()), ("y_aware", ()), ("l1_age", ()), ("threshold", ())],
)
def test_a_method_that_reads_age_refuses_an_impossible_one(method: str, more, rewritten: Rewrite, monkeypatch):
    no_scan(monkeypatch)
    with pytest.raises(
        ManifestError, match=r"manifest\.csv row \d+ \(.+\): age -3 is not between 0 and 120 years"
    ) as said:
        assemble(recipe(rewritten(one_age("-3")), method, *more), progress=False)
    assert f"but {method} reads age; correct it, or leave it empty" in str(said.value)


@pytest.mark.oddity("age-impossible-in-use")
def test_a_column_of_months_that_a_kernel_reads_is_judged_in_months(rewritten: Rewrite, monkeypatch):
    no_scan(monkeypatch)

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table["age_months"] = [f"{12 * float(age):.0f}" if age else "" for age in table["age"]]
        table.loc[table.index[table["split"] == "train"][1], "age_months"] = "5000"
        return table

    kernels = "method.kernels={age_months: {kernel: rbf, bandwidth: 24}}"
    with pytest.raises(ManifestError, match=r"age_months 5000 is not between 0 and 120 years, but exponential reads"):
        assemble(recipe(rewritten(change), "exponential", kernels), progress=False)


@pytest.mark.oddity("age-impossible-in-use")
def test_a_method_that_reads_no_age_takes_an_impossible_one_as_unknown(rewritten: Rewrite, capsys, tmp_path: Path):
    manifest = rewritten(one_age("-3"))
    parts = assemble(recipe(manifest, "simclr", f"data.cache={tmp_path / 'cache'}"))
    row = int(parts.train_rows[0])
    assert torch.isnan(parts.dataset.meta["age"][row])
    assert np.isnan(parts.cohort.table["age"].iloc[row]), "monitors and pictures read this one"
    assert parts.info["training"]["age"][0] > 0
    assert parts.info["hashes"]["manifest"] == Cohort.read(manifest).digest, "the parent is the file as it is"
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert "1 impossible age of the training rows count as unknown: age -3 of manifest.csv row" in said


@pytest.mark.oddity("age-code")
def test_a_code_is_no_age_in_a_training_and_its_note_is_said_once(rewritten: Rewrite, capsys, tmp_path: Path):
    manifest = rewritten(one_age("-9999"))
    parts = assemble(recipe(manifest, "exponential", f"data.cache={tmp_path / 'cache'}"))
    assert torch.isnan(parts.dataset.meta["age"][int(parts.train_rows[0])])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert said == ["note: 1 age of manifest.csv was left empty, being codes of missing values: -9999"]
    assemble(recipe(manifest, "exponential", f"data.cache={tmp_path / 'cache'}"), progress=False)
    assert "note: " not in capsys.readouterr().err


def test_a_clean_cohort_is_returned_as_it_is(cohort: Path):
    whole = Cohort.read(cohort)
    table, said = usable_ages(whole, whole.rows("train"), recipe(cohort, "exponential"))
    assert table is whole.table
    assert said == []


@pytest.mark.oddity("age-impossible-in-use")
def test_what_a_regularizer_reads_counts_too(rewritten: Rewrite, monkeypatch):
    no_scan(monkeypatch)
    more = "regularizers=[{name: fair_kl, column: age}]"
    with pytest.raises(ManifestError, match=r"age -3 is not between 0 and 120 years, but simclr reads age"):
        assemble(recipe(rewritten(one_age("-3")), "simclr", more), progress=False)


@pytest.mark.parametrize("method", sorted(CATALOG))
def test_every_method_says_what_it_reads_before_there_is_an_encoder(method: str, cohort: Path):
    whole = Cohort.read(cohort)
    read = _reads(recipe(cohort, method), whole.table, whole.rows("train"))
    assert set(read) <= set(whole.table.columns)
    assert ("age" in read) == (entry(method).family in ("weak", "supervised"))


@pytest.mark.oddity("age-code")
def test_embed_says_what_was_read_as_missing(cohort: Path, rewritten: Rewrite, capsys, tmp_path: Path):
    run = stages.pretrain(
        "simclr", *tiny_recipe(cohort, tmp_path / "run", "simclr"), f"data.cache={tmp_path / 'cache'}",
        "trainer.epochs=1", progress=False, page=False,
    )  # fmt: skip
    capsys.readouterr()
    manifest = rewritten(one_age("-9999"))
    table = stages.embed(run, manifest, tmp_path / "features.csv", cache=tmp_path / "cache")
    assert np.isnan(table.meta["age"].to_numpy(float)).sum() == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert said == ["note: 1 age of manifest.csv was left empty, being codes of missing values: -9999"]


@pytest.mark.oddity("age-impossible-in-use")
def test_a_run_over_an_impossible_age_knows_its_manifest_again(rewritten: Rewrite, tmp_path: Path):
    manifest = rewritten(one_age("-3"))
    made = recipe(manifest, "simclr", f"data.cache={tmp_path / 'cache'}", "trainer.epochs=1")
    run = stages.pretrain(made, progress=False, page=False)
    parts = assemble(load_recipe(Run(run).recipe), progress=False)
    same_parents(Run(run), parts)
    own_cohort(Path(run), Cohort.read(manifest))
    manifest.write_text(manifest.read_text().replace(",-3.0,", ",31,").replace(",-3,", ",31,"))
    with pytest.raises(UserError, match="the manifest changed since"):
        same_parents(Run(run), assemble(load_recipe(Run(run).recipe), progress=False))
