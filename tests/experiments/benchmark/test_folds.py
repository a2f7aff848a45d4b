from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from medssl.data.manifest.cohort import Cohort
from medssl.errors import ManifestError, UserError
from medssl.experiments.benchmark.folds import _every_site_once, fold_manifests
from medssl.experiments.benchmark.preset import load_preset
from medssl.experiments.benchmark.run import benchmark
from medssl.recipe.model import config_file


def measures(path: Path, people: int = 120, sites: int = 6) -> Path:
    """A table of 8 regional measures of people from several sites, two of whom came twice."""
    rng = np.random.default_rng(3)
    age = rng.uniform(20, 80, people).round(1)
    site = np.array([f"s{k}" for k in rng.permutation(np.arange(people) % sites)])
    values = 2.5 - 0.01 * age[:, None] + 0.1 * rng.normal(size=(people, 8)) + 0.05 * (site == "s0")[:, None]
    table = pd.DataFrame({"participant_id": [f"{k:03d}" for k in range(people)], "age": age, "site": site})
    table["sex"] = rng.choice(["F", "M"], people)
    table["session"] = "1"
    for k in range(8):
        table[f"r{k}_thickness"] = values[:, k]
    again = table.iloc[:2].assign(session="2")
    pd.concat([table, again]).to_csv(path, index=False)
    return path


def preset(**changes):
    return load_preset("roi").model_copy(update=changes)


def test_every_site_is_external_exactly_once_and_nobody_is_on_both_sides(tmp_path: Path):
    made = fold_manifests(measures(tmp_path / "t.csv"), preset(designs={"sites": 3, "challenge": 2}), tmp_path / "b")
    assert sorted(made) == [("challenge", 0), ("challenge", 1), ("sites", 0), ("sites", 1), ("sites", 2)]
    abroad: list[str] = []
    for (design, _), path in made.items():
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        sides = {name: set(part["participant_id"]) for name, part in table.groupby("split")}
        assert sides["train"].isdisjoint(sides["internal_test"] | sides["external_test"])
        sites = {name: set(part["site"]) for name, part in table.groupby("split")}
        assert sites["external_test"].isdisjoint(sites["train"])
        assert sites["internal_test"] <= sites["train"]
        if design == "sites":
            abroad += sorted(sites["external_test"])
            assert 0.06 < len(sides["internal_test"]) / 120 < 0.14
    assert sorted(abroad) == [f"s{k}" for k in range(6)]


def test_ages_are_rounded_up_to_even_years_for_supcon(tmp_path: Path):
    made = fold_manifests(measures(tmp_path / "t.csv"), preset(designs={"challenge": 1}), tmp_path / "b")
    table = pd.read_csv(made["challenge", 0])
    assert (table["age_bin"] % 2 == 0).all()
    assert ((table["age_bin"] - table["age"]).between(0, 2, inclusive="left")).all()


def test_the_same_folds_are_not_written_twice(tmp_path: Path):
    source = measures(tmp_path / "t.csv")
    first = fold_manifests(source, preset(), tmp_path / "b")
    before = {p: p.stat().st_mtime_ns for p in first.values()}
    assert fold_manifests(source, preset(), tmp_path / "b") == first
    assert {p: p.stat().st_mtime_ns for p in first.values()} == before


def test_too_few_sites_and_no_sites_are_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="6 sites cannot be held out in 6 groups"):
        fold_manifests(measures(tmp_path / "t.csv"), preset(designs={"sites": 6}), tmp_path / "b")
    pd.read_csv(tmp_path / "t.csv").drop(columns="site").to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(UserError, match="names no sites"):
        fold_manifests(tmp_path / "n.csv", preset(), tmp_path / "b")


def test_a_family_is_on_one_side_of_every_fold_and_without_families_folds_are_as_ever(tmp_path: Path):
    source = measures(tmp_path / "t.csv")
    table = Cohort.read(source, images=False).table
    plain = np.concatenate([split.to_numpy() for split in _every_site_once(table, 3)])
    assert hashlib.sha256("\n".join(plain).encode()).hexdigest()[:16] == "b5df62e4194f1f06"
    rows = pd.read_csv(source, dtype=str)
    number = rows["participant_id"].astype(int)
    kin = number.where(number % 12 < 2).floordiv(12)  # numbers with gaps
    rows.assign(family=kin).to_csv(source, index=False)
    made = fold_manifests(source, preset(designs={"sites": 3, "challenge": 2}), tmp_path / "b")
    for path in made.values():
        found = Cohort.read(path, images=False).table
        used = found[(found["split"] != "") & found["family"].ne("")]
        assert (used.groupby("family")["split"].nunique() == 1).all()
        assert set(found["split"]) >= {"train", "internal_test", "external_test"}
    torn = pd.Series(plain[: len(table)])[kin.notna()].groupby(kin[kin.notna()]).nunique()
    assert (torn > 1).any()  # else this test says nothing


@pytest.mark.oddity("age-impossible-in-use")
@pytest.mark.parametrize(
    ("factor", "odd", "words"), [(12, None, "look like months"), (1, "-3", "age -3 is not between")]
)
def test_a_benchmark_refuses_ages_that_cannot_be_years(tmp_path: Path, factor: int, odd: str, words: str):
    table = pd.read_csv(measures(tmp_path / "m.csv"), dtype=str, keep_default_na=False)
    table["age"] = [f"{factor * float(age):.1f}" for age in table["age"]]
    if odd:
        table.loc[7, "age"] = odd
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ManifestError, match=words):
        fold_manifests(tmp_path / "t.csv", preset(designs={"sites": 3}), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_benchmark_that_is_refused_leaves_no_folder(tmp_path: Path):
    content = yaml.safe_load(Path(str(config_file("benchmark", "openbhb-roi"))).read_text())
    content["designs"] = {"sites": 6}
    content["quick"]["designs"] = ["sites"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    data = measures(tmp_path / "t.csv")
    with pytest.raises(UserError, match="6 sites cannot be held out in 6 groups"):
        benchmark(str(tmp_path / "p.yaml"), tmp_path / "b", data=data, progress=False)
    assert not (tmp_path / "b").exists()
    (tmp_path / "kept").mkdir()
    with pytest.raises(UserError, match="6 sites cannot be held out in 6 groups"):
        benchmark(str(tmp_path / "p.yaml"), tmp_path / "kept", data=data, progress=False)
    assert list((tmp_path / "kept").iterdir()) == []
