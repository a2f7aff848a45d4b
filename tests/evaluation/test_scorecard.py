from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV

from medssl.errors import UserError
from medssl.evaluation import age as age_probe
from medssl.evaluation import intervals
from medssl.evaluation import site as site_probe
from medssl.evaluation.caution import BELOW_CHANCE, SITE_DIRECTION
from medssl.evaluation.intervals import METRICS
from medssl.evaluation.scorecard import Line, scorecard
from medssl.evaluation.scores import COLUMNS, Scores
from medssl.features.table import FeatureTable

MakeCohort = Callable[..., FeatureTable]
GRID = 10.0 ** np.arange(-2, 3)


def short(table: FeatureTable, extra: dict[str, np.ndarray] | None = None, **options: int) -> Scores:
    return scorecard(table, extra, **{"resamples": 100, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(make_cohort: MakeCohort) -> Scores:
    """The standard cohort under the full protocol."""
    return short(make_cohort())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One penalty instead of five: for tests that are not about the search."""
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])


def with_meta(table: FeatureTable, **columns: object) -> FeatureTable:
    return FeatureTable(table.meta.assign(**columns), table.values, table.provenance)


def by_hand(table: FeatureTable) -> dict[str, float]:
    """Section 3 of the challenge, written out with scikit-learn."""
    z, meta = table.values.astype(float), table.meta
    train, internal, external = ((meta["split"] == s).to_numpy() for s in ("train", "internal_test", "external_test"))
    age, site = meta["age"].to_numpy(), meta["site"].to_numpy()
    ridge = GridSearchCV(Ridge(), {"alpha": GRID}, cv=5, scoring="r2").fit(z[train], age[train])
    logistic = GridSearchCV(
        LogisticRegression(solver="saga", max_iter=150, random_state=0),
        {"C": GRID},
        cv=5,
        scoring="balanced_accuracy",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logistic.fit(z[train], site[train])
    inside, outside = ridge.predict(z[internal]), ridge.predict(z[external])
    accuracy = balanced_accuracy_score(site[internal], logistic.predict(z[internal]))
    error = mean_absolute_error(age[external], outside)
    return {
        "mae_internal": mean_absolute_error(age[internal], inside),
        "mae_external": error,
        "rmse_internal": root_mean_squared_error(age[internal], inside),
        "rmse_external": root_mean_squared_error(age[external], outside),
        "r2_internal": r2_score(age[internal], inside),
        "r2_external": r2_score(age[external], outside),
        "site_bacc": accuracy,
        "challenge": accuracy**0.3 * error,
    }


def test_scores_are_those_of_a_plain_scikit_learn_program(make_cohort: MakeCohort, plain: Scores) -> None:
    found = plain.to_dict()
    for name, value in by_hand(make_cohort()).items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
    assert found["site_chance"] == 0.25


def test_constant_features_score_the_mean_predictor_and_exactly_chance(make_cohort: MakeCohort, plain: Scores) -> None:
    constant = plain.to_dict()["references"]["constant"]
    meta = make_cohort().meta
    mean = meta.loc[meta["split"] == "train", "age"].mean()
    for part in ("internal", "external"):
        age = meta.loc[meta["split"] == f"{part}_test", "age"]
        assert constant[f"mae_{part}"] == pytest.approx(np.abs(age - mean).mean(), rel=1e-12)
    assert constant["site_bacc"] == 0.25 == constant["site_chance"]


@pytest.mark.usefixtures("quick")
def test_a_constant_encoder_equals_the_constant_reference(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    flat = FeatureTable(table.meta, np.full((len(table), 3), 2.5), {})
    found = short(flat).to_dict()
    for name in METRICS:
        assert found[name] == pytest.approx(found["references"]["constant"][name], rel=1e-9)
    assert found["differences"]["constant"]["mae_external"]["difference"] == pytest.approx(0.0, abs=1e-9)


def test_age_oracle_has_no_error_and_no_challenge_score(plain: Scores) -> None:
    oracle = plain.to_dict()["references"]["age_oracle"]
    assert oracle["mae_internal"] < 1e-3
    assert oracle["mae_external"] < 1e-3
    assert oracle["challenge"] < 1e-3
    assert oracle["r2_external"] == pytest.approx(1.0)


@pytest.mark.usefixtures("quick")
def test_site_median_is_that_of_the_site_and_of_all_for_unseen_sites(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    scores = short(table)
    meta = table.meta
    train = meta[meta["split"] == "train"]
    median = train.groupby("site")["age"].median()
    said = scores.predictions.query("features == 'site_median'")
    expected = said["site"].map(median).fillna(train["age"].median())
    assert said["predicted"].to_numpy() == pytest.approx(expected.to_numpy())
    line = scores.to_dict()["references"]["site_median"]
    assert line["site_bacc"] is None
    assert line["challenge"] is None
    assert line["mae_external"] == pytest.approx(
        np.abs(expected - said["age"])[said["split"] == "external_test"].mean()
    )


@pytest.mark.usefixtures("quick")
def test_every_line_has_the_same_keys_and_missing_references_a_reason(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    found = short(table, {"untrained": np.random.default_rng(0).normal(size=(len(table), 5))}).to_dict()
    assert set(found["references"]) == {"constant", "age_oracle", "site_median", "ridge_voxels", "untrained"}
    assert set(found["references"]["ridge_voxels"]) == {"missing"}
    for name in ("constant", "age_oracle", "site_median", "untrained"):
        assert set(found["references"][name]) == {*METRICS, "site_chance", "ci", "probe"}
        assert set(found["references"][name]) <= set(found)
    assert set(found["differences"]) == {"constant", "age_oracle", "site_median", "untrained"}


def test_test_rows_never_reach_the_fit(make_cohort: MakeCohort, plain: Scores) -> None:
    table = make_cohort()
    other = (table.meta["split"] != "train").to_numpy()
    kept = np.flatnonzero(other)[::2]
    moved = np.setdiff1d(np.flatnonzero(other), kept)
    values, meta = table.values.copy(), table.meta.copy()
    values[moved] = 1e3
    meta.loc[moved, "age"] = 99.0
    one, two = plain, short(FeatureTable(meta, values, {}))
    names = table.meta["participant_id"][kept]
    columns = ["predicted", "site_predicted"]
    for features in ("encoder", "constant", "site_median"):
        said = [s.predictions[s.predictions["features"] == features] for s in (one, two)]
        a, b = (frame.set_index("participant_id").loc[names, columns] for frame in said)
        pd.testing.assert_frame_equal(a, b)
    assert one.main["probe"] == two.main["probe"]


@pytest.mark.usefixtures("quick")
def test_order_of_the_test_rows_does_not_change_the_scores(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    test = np.flatnonzero(table.meta["split"] != "train")
    order = np.r_[np.flatnonzero(table.meta["split"] == "train"), np.random.default_rng(0).permutation(test)]
    one, two = short(table).to_dict(), short(table.subset(order)).to_dict()
    for name in METRICS:
        assert one[name] == pytest.approx(two[name], rel=1e-12)
        assert one["ci"][name] == pytest.approx(two["ci"][name], rel=1e-9)


@pytest.mark.usefixtures("quick")
def test_same_seed_repeats_and_scaling_is_flagged(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    assert short(table).to_dict() == short(table).to_dict()
    scaled = short(table, scale=True).to_dict()
    assert scaled["protocol"]["scale"] is True
    assert any("standardised" in note for note in scaled["notes"])
    assert scaled["mae_external"] != short(table).to_dict()["mae_external"]


@pytest.mark.usefixtures("quick")
def test_intervals_hold_the_score_and_differences_are_paired(make_cohort: MakeCohort) -> None:
    table = make_cohort(unseen=6)
    noisy = table.values + np.random.default_rng(0).normal(size=table.values.shape) * 0.05
    found = scorecard(table, {"untrained": noisy}, resamples=1000).to_dict()
    for name in METRICS:
        low, high = found["ci"][name]
        assert low <= found[name] <= high
    gap = found["differences"]["untrained"]["mae_external"]
    low, high = gap["ci"]
    assert low <= gap["difference"] <= high
    assert gap["difference"] == pytest.approx(found["mae_external"] - found["references"]["untrained"]["mae_external"])
    own = found["ci"]["mae_external"]
    assert high - low < 0.5 * (own[1] - own[0])
    assert len(gap["ci_sites"]) == 2
    assert found["differences"]["constant"]["mae_external"]["ci"][1] < 0
    assert found["differences"]["untrained"]["mae_internal"]["ci_sites"] is None


@pytest.mark.usefixtures("quick")
def test_no_resamples_give_the_same_scores_without_intervals(make_cohort: MakeCohort) -> None:
    one, two = short(make_cohort()), short(make_cohort(), resamples=0)
    assert {name: one.main[name] for name in METRICS} == {name: two.main[name] for name in METRICS}
    assert set(two.main["ci"].values()) == {None}
    assert "[" not in two.markdown().split("\n", 1)[1]


@pytest.mark.usefixtures("quick")
def test_whole_sites_that_err_together_give_a_wider_interval(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "FEW_SITES", 5)
    table = make_cohort(external=200)
    shift = {f"site{4 + k}": s for k, s in enumerate((0.0, 3.0, -3.0, 5.0, -5.0))}
    values = table.values.copy()
    values += table.meta["site"].map(shift).fillna(0.0).to_numpy()[:, None].astype(np.float32)
    gap = short(FeatureTable(table.meta, values, {}), resamples=1000).to_dict()["differences"]["constant"][
        "mae_external"
    ]
    by_people, by_site = gap["ci"], gap["ci_sites"]
    assert by_site[1] - by_site[0] > 1.3 * (by_people[1] - by_people[0])


def test_sites_are_reported_one_by_one(plain: Scores) -> None:
    sites = plain.to_dict()["per_site"]
    assert [(s["split"], s["site"]) for s in sites[:5]] == [
        *(("internal_test", f"site{k}") for k in range(4)),
        ("external_test", "site4"),
    ]
    assert sum(s["n"] for s in sites) == 76
    said = plain.predictions.query("features == 'encoder' and site == 'site5'")
    line = next(s for s in sites if s["site"] == "site5")
    error = (said["predicted"] - said["age"]).to_numpy()
    assert line["mae"] == pytest.approx(np.abs(error).mean())
    assert line["bias"] == pytest.approx(error.mean())
    assert line["mae_constant"] > line["mae"]


@pytest.mark.usefixtures("quick")
def test_without_external_rows_external_scores_are_empty(make_cohort: MakeCohort) -> None:
    found = short(make_cohort(external=0)).to_dict()
    assert found["mae_external"] is None
    assert found["challenge"] is None
    assert found["ci"]["mae_external"] is None
    assert found["mae_internal"] > 0
    assert found["site_bacc"] > 0.25
    assert any(note.startswith("no external_test rows") for note in found["notes"])


@pytest.mark.usefixtures("quick")
def test_without_internal_rows_internal_scores_are_empty(make_cohort: MakeCohort) -> None:
    found = short(make_cohort(internal=0)).to_dict()
    assert found["mae_internal"] is None
    assert found["site_bacc"] is None
    assert found["challenge"] is None
    assert found["mae_external"] > 0
    assert any(note.startswith("no internal_test rows") for note in found["notes"])


@pytest.mark.parametrize(("site", "word"), [("", "no site"), ("only", "one site")])
@pytest.mark.usefixtures("quick")
def test_without_two_sites_site_scores_are_empty(make_cohort: MakeCohort, site: str, word: str) -> None:
    found = short(with_meta(make_cohort(), site=site)).to_dict()
    assert (found["site_bacc"], found["site_chance"], found["challenge"]) == (None, None, None)
    assert found["mae_internal"] > 0
    assert found["differences"]["constant"]["mae_external"]["ci_sites"] is None
    assert any(f"name {word}" in note for note in found["notes"])


@pytest.mark.usefixtures("quick")
def test_rows_without_an_age_are_left_out_of_the_age_scores_and_counted(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    age = table.meta["age"].to_numpy().copy()
    age[[3, 90, 91, 150]] = np.nan
    found = short(with_meta(table, age=age)).to_dict()
    assert found["n"]["age_missing_train"] == 1
    assert "2 of 36 internal_test rows have no age and are left out of the age scores" in found["notes"]
    assert found["site_bacc"] == short(table).to_dict()["site_bacc"]
    assert found["references"]["age_oracle"]["mae_internal"] < 1e-3
    kept = np.isfinite(age) | (table.meta["split"] != "train").to_numpy()
    expected = short(with_meta(table, age=age).subset(kept)).to_dict()
    assert found["mae_internal"] == pytest.approx(expected["mae_internal"], rel=1e-12)


@pytest.mark.usefixtures("quick")
def test_without_any_age_only_the_site_is_scored(make_cohort: MakeCohort) -> None:
    found = short(with_meta(make_cohort(), age=np.nan)).to_dict()
    assert found["mae_internal"] is None
    assert found["site_bacc"] > 0.25
    assert found["per_site"] == []
    assert any("no training row has an age" in note for note in found["notes"])


@pytest.mark.usefixtures("quick")
def test_internal_rows_of_an_unseen_site_are_not_scored_for_site(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    site = table.meta["site"].to_numpy().copy()
    site[90:94] = ["new", "", "new", "new"]
    found = short(with_meta(table, site=site)).to_dict()
    assert found["n"]["site_scored"] == 32
    assert any(note.startswith("4 internal_test rows of no or an unseen site") for note in found["notes"])


@pytest.mark.usefixtures("quick")
def test_few_unseen_sites_are_not_drawn_again_as_a_whole_and_it_is_said_once(make_cohort: MakeCohort) -> None:
    for unseen, given in ((6, True), (5, False), (2, False)):
        scores = short(make_cohort(unseen=unseen))
        pairs = [metrics["mae_external"]["ci_sites"] for metrics in scores.to_dict()["differences"].values()]
        assert all((pair is not None) == given for pair in pairs)
        assert ("whole sites resampled" in scores.markdown()) == given
        notes = [note for note in scores.notes if note.startswith("no interval over whole sites")]
        assert len(notes) == (0 if given else 1)
        assert given or f"the {unseen} unseen sites are fewer than 6" in notes[0]
    assert not any("whole sites" in note for note in short(make_cohort(unseen=2), resamples=0).notes)
    assert not any("whole sites" in note for note in short(make_cohort(unseen=1)).notes)


@pytest.mark.usefixtures("quick")
def test_a_site_accuracy_clearly_below_chance_is_noted(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    assert not any("below chance" in note for note in short(table).notes)
    site = table.meta["site"].to_numpy().copy()
    inside = np.flatnonzero(table.meta["split"] == "internal_test")
    site[inside] = [f"site{(int(name[-1]) + 1) % 4}" for name in site[inside]]  # every scan has a wrong site
    scores = short(with_meta(table, site=site))
    assert scores.main["site_bacc"] < 0.1
    (note,) = [note for note in scores.notes if "below chance" in note]
    assert note == f"site BAcc of encoder is clearly below chance: {BELOW_CHANCE}"
    assert f"Note: {note}." in scores.markdown()
    assert f"site BAcc: {SITE_DIRECTION};" in scores.markdown()


@pytest.mark.usefixtures("quick")
def test_few_people_and_not_few_scans_are_noted(make_cohort: MakeCohort) -> None:
    table = make_cohort(train=60, internal=45, external=60)  # two scans of every other person
    assert not any("rest on" in note for note in short(table).notes)
    split, who = table.meta["split"].to_numpy(), table.meta["subject"].to_numpy().copy()
    external = np.flatnonzero(split == "external_test")
    who[external[30:]] = who[external[:30]]
    assert [note for note in short(with_meta(table, subject=who)).notes if "rest on" in note] == [
        "the age scores of external_test rest on 20 people: with fewer than 30 they easily change"
    ]


@pytest.mark.usefixtures("quick")
def test_a_tiny_cohort_is_scored_with_notes(make_cohort: MakeCohort) -> None:
    found = short(make_cohort(train=7, internal=4, external=5, sites=2)).to_dict()
    assert found["mae_internal"] is not None
    assert found["site_bacc"] is not None
    assert any("folds instead of 5" in note for note in found["notes"])
    assert "the age scores of internal_test rest on 3 people: with fewer than 30 they easily change" in found["notes"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.usefixtures("quick")
def test_an_external_site_that_is_also_in_training_is_noted(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    site = table.meta["site"].to_numpy().copy()
    site[-1] = "site0"
    assert any("not unseen" in note for note in short(with_meta(table, site=site)).notes)


@pytest.mark.usefixtures("quick")
def test_other_names_of_the_splits_are_understood(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    names = {"train": "train", "internal_test": "internal_val", "external_test": "external"}
    renamed = with_meta(table, split=table.meta["split"].map(names))
    assert short(renamed).to_dict()["mae_external"] == short(table).to_dict()["mae_external"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("", "no row has a split.*medssl cohort split"),
        ("train", "every row with a split is train"),
        ("external_test", "no row has split train"),
        ("fold1", r"row 2 \(0000\): split is 'fold1'"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_splits_that_cannot_be_scored_are_named(make_cohort: MakeCohort, split: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        short(with_meta(make_cohort(), split=split))


@pytest.mark.usefixtures("quick")
def test_a_person_on_both_sides_of_the_split_is_a_leak(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    subject = table.meta["subject"].to_numpy().copy()
    subject[100] = subject[5]
    with pytest.raises(UserError, match=r"row 6 \(0004\).*internal_test \(row 102 \(0100\)\).*one side"):
        short(with_meta(table, subject=subject))


@pytest.mark.usefixtures("quick")
def test_equal_ids_of_two_datasets_are_two_people_but_one_dataset_is_a_leak(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    ids = table.meta["participant_id"].to_numpy().copy()
    ids[100] = ids[5]
    dataset = np.array(["IXI"] * len(ids), dtype=object)
    same = FeatureTable(
        table.meta.drop(columns="subject").assign(participant_id=ids, dataset=dataset), table.values, {}
    )
    with pytest.raises(UserError, match="IXI/0005 is in train"):
        short(same)
    dataset[100] = "NAR"
    assert short(with_meta(same, dataset=dataset)).main["mae_internal"] is not None


@pytest.mark.usefixtures("quick")
def test_features_that_are_not_finite_name_the_first_rows(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    values = table.values.copy()
    values[[4, 120], [0, 3]] = [np.nan, np.inf]
    with pytest.raises(
        UserError, match=r"encoder: the features of 2 rows are NaN or infinite: row 6 \(0004\), row 122 \(0120\)"
    ):
        short(FeatureTable(table.meta, values, {}))
    with pytest.raises(UserError, match="untrained: the features of 2 rows"):
        short(table, {"untrained": values})


@pytest.mark.usefixtures("quick")
def test_extra_features_must_fit_the_table(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    with pytest.raises(UserError, match="one row per row"):
        short(table, {"untrained": np.ones((3, 2))})
    with pytest.raises(UserError, match="built-in row"):
        short(table, {"constant": np.ones((len(table), 2))})


@pytest.mark.usefixtures("quick")
def test_written_scores_and_predictions_are_read_back(make_cohort: MakeCohort, tmp_path: Path) -> None:
    scores = short(make_cohort(external=0))
    path = scores.write(tmp_path / "run")
    assert sorted(p.name for p in path.parent.iterdir()) == ["predictions.csv", "scores.json"]
    assert json.loads(path.read_text()) == scores.to_dict()
    said = pd.read_csv(path.parent / "predictions.csv", dtype={"participant_id": str})
    assert list(said.columns[:7]) == [
        "participant_id",
        "session",
        "site",
        "split",
        "age",
        "predicted",
        "features",
    ]
    assert said["participant_id"][0] == "0090"
    assert set(said["features"]) == {"encoder", "constant", "age_oracle", "site_median"}
    assert len(said) == 4 * 36


@pytest.mark.usefixtures("quick")
def test_the_printed_table_has_the_encoder_first_then_the_references(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    scores = short(table, {"untrained": table.values[:, :2]})
    rows = scores.rows()
    assert [row[0] for row in rows] == [
        "encoder", "constant", "age oracle", "site median", "untrained", "ridge voxels",
    ]  # fmt: skip
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[1][4] == "0.25 (0.25)"
    assert rows[0][2].startswith(f"{scores.main['mae_external']:.2f} [")
    text = scores.markdown()
    assert text.splitlines()[2].startswith("| encoder |")
    assert "encoder minus untrained" in text
    assert "ridge voxels: not given" in text


def test_every_row_is_watched_once_before_it_is_fitted(make_cohort: MakeCohort, quick: None):
    table = make_cohort()
    seen: list[str] = []

    def watch(lines: list[Line]) -> Iterator[Line]:
        for line in lines:
            seen.append(line.name)
            yield line

    watched = scorecard(table, {"untrained": table.values[:, :2]}, resamples=20, watch=watch)
    assert seen == ["encoder", "constant", "age_oracle", "site_median", "untrained"]
    assert watched.to_dict() == scorecard(table, {"untrained": table.values[:, :2]}, resamples=20).to_dict()


def test_how_unlike_a_scan_is_changes_no_score(make_cohort: MakeCohort, quick: None):
    table = make_cohort()
    told = with_meta(table, unlike=np.linspace(0, 1, len(table)))
    assert short(told).to_dict() == short(table).to_dict()
