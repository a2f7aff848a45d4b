from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.errors import ManifestError, UserError
from medssl.experiments.study.holdout import hold_out
from medssl.experiments.study.plan import Study, load_study
from tests.experiments.study.conftest import write


def held(measures: Path, tmp_path: Path, **changes: object) -> tuple[Study, pd.DataFrame]:
    study = load_study(write(tmp_path / "s.yaml", **changes), measures)
    hold_out(Cohort.read(measures, images=False), study, tmp_path)
    return study, Cohort.read(tmp_path / "train.csv", images=False).table


def test_only_train_rows_choose_and_people_and_sites_stay_on_one_side(measures: Path, tmp_path: Path):
    _, made = held(measures, tmp_path)
    own = Cohort.read(measures, images=False).table
    ids = ["participant_id", "session"]
    train = own[own["split"] == "train"]
    assert sorted(map(tuple, made[ids].to_numpy())) == sorted(map(tuple, train[ids].to_numpy()))
    sides = dict(iter(made.groupby("split")))
    people = {name: set(part["subject"]) for name, part in sides.items()}
    assert people["train"].isdisjoint(people["internal_test"] | people["external_test"])
    assert people["internal_test"].isdisjoint(people["external_test"])
    assert set(sides["external_test"]["site"]).isdisjoint(sides["train"]["site"])
    assert set(sides["internal_test"]["site"]) <= set(sides["train"]["site"])
    assert not (tmp_path / "test.csv").exists()


@pytest.mark.parametrize(
    "damage", [lambda content: b"\xff\xfe\x80" + content, lambda content: content[:-9], lambda _: b""]
)
def test_a_damaged_table_of_the_train_rows_is_written_again(measures: Path, tmp_path: Path, damage):
    held(measures, tmp_path)
    whole = (tmp_path / "train.csv").read_bytes()
    (tmp_path / "train.csv").write_bytes(damage(whole))
    held(measures, tmp_path)
    assert (tmp_path / "train.csv").read_bytes() == whole


def test_test_rows_stand_apart_and_only_where_they_are_reported(measures: Path, tmp_path: Path):
    _, made = held(measures, tmp_path, test=True)
    test = Cohort.read(tmp_path / "test.csv", images=False).table
    assert set(test["split"]) == {"internal_test", "external_test"}
    assert set(test["subject"]).isdisjoint(made["subject"])


def test_the_same_options_give_the_same_file_and_another_seed_another(measures: Path, tmp_path: Path):
    _, first = held(measures, tmp_path)
    before = (tmp_path / "train.csv").stat().st_mtime_ns
    _, second = held(measures, tmp_path)
    assert (tmp_path / "train.csv").stat().st_mtime_ns == before
    _, third = held(measures, tmp_path, validation={"seed": 3})
    assert first["split"].equals(second["split"])
    assert not first["split"].equals(third["split"])


def test_without_held_out_sites_the_choice_is_by_people(measures: Path, tmp_path: Path):
    _, made = held(measures, tmp_path, validation={"sites": 0.0}, score="mae_internal")
    assert set(made["split"]) == {"train", "internal_test"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation": {"sites": 0.0}}, "the score 'challenge' needs whole sites"),
        ({"validation": {"people": 0.0}, "score": "mae_internal"}, "needs people of known sites with an age"),
        ({"validation": {"people": 0.0}, "score": "site_bacc"}, "needs people of at least two known sites"),
    ],
)
def test_a_score_that_the_held_out_part_cannot_give_is_refused(
    changes: dict, words: str, measures: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=words):
        held(measures, tmp_path, **changes)


def test_a_cohort_without_test_rows_cannot_report_them(measures: Path, tmp_path: Path):
    table = pd.read_csv(measures)
    table[table["split"] == "train"].to_csv(tmp_path / "only.csv", index=False)
    with pytest.raises(UserError, match="test: false"):
        held(tmp_path / "only.csv", tmp_path, test=True)


def with_families(measures: Path, path: Path, only: str | None) -> Path:
    """The cohort with pairs of relatives, numbered with gaps; ``only``: both of the same split."""
    table = pd.read_csv(measures, dtype=str)
    inside = table.index[(table["session"] == "1") & ((table["split"] == only) if only else True)]
    table["family"] = pd.Series({row: k // 10 for k, row in enumerate(inside) if k % 10 < 2}, dtype=float)
    table["family"] = table["family"].reindex(table.index)
    table.to_csv(path, index=False)
    return path


def test_families_stay_on_one_side_of_the_hold_out(measures: Path, tmp_path: Path):
    _, plain = held(measures, tmp_path)
    digest = hashlib.sha256("\n".join(plain["split"]).encode()).hexdigest()[:16]
    assert digest == "4c6d5cf30d8e96dc"  # without families the hold-out is as ever
    source = with_families(measures, tmp_path / "kin.csv", "train")
    family = Cohort.read(source, images=False).table.query("split == 'train'")["family"].to_numpy()
    named = family != ""
    assert (plain["split"][named].groupby(family[named]).nunique() > 1).any()  # else this test says nothing
    for seed in range(4):
        _, made = held(source, tmp_path, validation={"seed": seed})
        used = made[made["split"].ne("") & made["family"].ne("")]
        assert (used.groupby("family")["split"].nunique() == 1).all()
        assert set(made["split"]) >= {"train", "internal_test", "external_test"}


def test_a_family_in_train_and_test_rows_is_said_before_the_first_trial(measures: Path, tmp_path: Path):
    source = with_families(measures, tmp_path / "kin.csv", None)
    with pytest.raises(ManifestError, match=r"family \d+ is in train \(kin.csv row .*keep each family on one side"):
        held(source, tmp_path, test=True)
    assert not (tmp_path / "train.csv").exists()
    held(source, tmp_path)  # test rows are not read: nothing leaks
