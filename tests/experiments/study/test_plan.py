from __future__ import annotations

import doctest
import itertools
from pathlib import Path

import pytest

from medssl.errors import RecipeError
from medssl.experiments.study import plan
from medssl.experiments.study.plan import load_study, trial_name
from medssl.recipe.model import config_file
from tests.experiments.study.conftest import CHANGES, GRID, SEARCH, write


def test_the_grid_is_every_combination_with_the_last_key_fastest(tmp_path: Path, measures: Path):
    study = load_study(write(tmp_path / "s.yaml"), measures)
    wanted = [dict(zip(GRID, each, strict=True)) for each in itertools.product(*GRID.values())]
    assert study.trials() == wanted
    assert study.count == 4
    recipe = study.recipe_of(wanted[3])
    assert (recipe.method.arguments["temperature"], recipe.trainer.seed, recipe.trainer.devices) == (0.5, 1, 1)
    assert recipe.data.manifest == str(measures)


@pytest.mark.parametrize("name", ["demo", "search"])
def test_shipped_studies_are_valid(name: str, measures: Path):
    study = load_study(name, None if name == "demo" else measures)
    assert study.count >= 10
    assert config_file("study", name) is not None


def test_names_of_trials_differ_where_values_do_and_stay():
    module = doctest.testmod(plan)
    assert module.attempted > 0
    assert module.failed == 0
    several = [{"a.width": 1, "b.width": 2}, {"a.width": 2, "b.width": 1}, {"a.width": 1.0, "b.width": 2},
               {"a.width": 1.00001, "b.width": 2}, {"a.x": [1, {"b": "c/../d"}]}]  # fmt: skip
    names = [trial_name(settings) for settings in several]
    assert len(set(names)) == len(names)
    assert all(Path(name).name == name for name in names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grdi": {}}, "unknown key 'grdi'; did you mean 'grid'"),
        ({"grid": {"method.temprature": [0.1]}}, "temprature.*did you mean 'method.temperature'"),
        ({"grid": {"optim.lrr": [0.1]}}, r"unknown key 'optim.lrr'; did you mean 'optim.lr'"),
        ({"grid": {"optim.lr": [0.1, -1.0]}}, r"optim.lr.* is -1.0"),
        ({"grid": {"optim.lr": 0.1}}, r"'optim.lr' is 0.1, but a list of values is needed; write \[0.1\]"),
        ({"grid": {"optim.lr": []}}, "empty list"),
        ({"grid": {}}, "nothing varies"),
        ({"grid": {"output": ["a"]}}, "'output' is set by the study itself"),
        (
            {"changes": [*CHANGES, "output=runs/mine"]},
            "'output' is set by the study .* of the changes",
        ),
        ({"grid": None, "search": {"trials": 2, "seeds": [0], "space": {}}}, "search.space is empty"),
        ({"search": SEARCH}, "both grid and search"),
        ({"grid": None}, "neither grid nor search"),
        ({"score": "mae"}, "'score' is 'mae'"),
        ({"validation": {"site": 0.1}}, "unknown key 'validation.site'; did you mean 'validation.sites'"),
        ({"validation": {"sites": 0.0, "people": 0.0}}, "both 0, so nothing is left to choose by"),
        ({"grid": None, "search": SEARCH | {"sampler": "bayes"}}, "search.sampler"),
        ({"grid": None, "search": SEARCH | {"trials": 0}}, "search.trials"),
        ({"grid": None, "search": SEARCH | {"space": {"optim.lr": {"low": 1, "hihg": 2}}}}, "did you mean 'high'"),
        ({"grid": None, "search": SEARCH | {"space": {"optim.lr": {"low": 2, "high": 1}}}}, "low 2 must be below"),
        ({"grid": None, "search": SEARCH | {"space": {"optim.lr": {"low": 0, "high": 1, "log": True}}}}, "above 0"),
        ({"grid": None, "search": SEARCH | {"space": {"optim.lr": {"low": -1, "high": 1}}}}, r"optim.lr.* is -1"),
        ({"grid": None, "search": SEARCH | {"space": {"trainer.seed": [1]}, "seeds": [0]}}, "both search.seeds"),
    ],
)
def test_a_wrong_study_is_one_sentence_before_anything_runs(changes: dict, words: str, tmp_path: Path, measures: Path):
    path = write(tmp_path / "mine.yaml", **changes)
    with pytest.raises(RecipeError, match=words) as caught:
        load_study(path, measures)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cohort_must_be_named_exactly_once(tmp_path: Path, measures: Path):
    with pytest.raises(RecipeError, match="no cohort is named; give --data"):
        load_study(write(tmp_path / "s.yaml"))
    made = write(tmp_path / "t.yaml", synthetic={"subjects": 40, "sites": 4, "spacing": 8.0})
    with pytest.raises(RecipeError, match="leave out --data"):
        load_study(made, measures)
    with pytest.raises(RecipeError, match="there is no study 'demmo'"):
        load_study("demmo")


def test_a_recipe_beside_the_study_is_found_from_any_folder(tmp_path: Path, measures: Path, monkeypatch):
    shipped = config_file("pretrain", "exponential_roi")
    assert shipped is not None
    (tmp_path / "own.yaml").write_text(shipped.read_text())
    path = write(tmp_path / "s.yaml", recipe="own.yaml")
    monkeypatch.chdir(tmp_path.parent)
    assert load_study(path, measures).recipe == str(tmp_path / "own.yaml")


def test_what_makes_scores_comparable_is_in_the_identity_and_values_are_not(tmp_path: Path, measures: Path):
    def identity(**changes: object) -> str:
        return load_study(write(tmp_path / "s.yaml", **changes), measures).identity("cohort")

    first = identity()
    assert identity(grid=GRID | {"method.temperature": [0.3]}, score="mae_internal", title="Other") == first
    assert identity(grid=GRID | {"optim.lr": [0.1]}) != first
    assert identity(validation={"seed": 1}) != first
    assert identity(changes=[*CHANGES, "optim.lr=0.1"]) != first
    assert load_study(tmp_path / "s.yaml", measures).identity("another cohort") != first


@pytest.mark.parametrize("value", ["../../x", "/etc/x", "~", "..", "\0", "é" * 200, "脳" * 200, "x" * 500, ""])
def test_the_folder_of_a_trial_is_one_name_whatever_its_values(value: str):
    name = trial_name({"views.policy": value})
    assert "/" not in name
    assert name not in (".", "..")
    assert len(name.encode()) <= 100
    assert name != trial_name({"views.policy": value + "x"})
