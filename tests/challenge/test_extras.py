from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medssl.challenge.extras import fold_intervals, leave_site_out, left_out_sites, within_site
from medssl.challenge.folds import HELD_OUT, TEST, read_folds
from medssl.evaluation.intervals import Prediction
from medssl.features.table import FeatureTable
from tests.evaluation.conftest import official

MakeCohort = Callable[..., FeatureTable]


def test_within_site_correlation_forgets_offsets_of_sites_and_needs_rows() -> None:
    rng = np.random.default_rng(0)
    site = np.repeat(["a", "b", "c"], [20, 20, 4]).astype(object)
    age = rng.uniform(6, 86, 44)
    offset = {"a": 40.0, "b": -40.0, "c": 0.0}
    r, sites = within_site(age, age + [offset[s] for s in site], site)
    assert (r, sites) == (pytest.approx(1.0), 2)
    assert within_site(age, np.array([offset[s] for s in site]), site) == (None, 0)
    noisy = age + rng.normal(scale=30, size=44)
    expected = np.mean([np.corrcoef(age[site == s], noisy[site == s])[0, 1] for s in "ab"])
    assert within_site(age, noisy, site) == (pytest.approx(expected), 2)


def test_leave_site_out_never_sees_the_site_nor_its_people(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    parts = [fold.rows for fold in read_folds(table.meta)]
    used, sites = left_out_sites(parts)
    assert used.sum() == len(table)
    assert len(sites) == 9
    z = table.values.astype(float)
    (one,) = leave_site_out(z, parts[0], used, ["site2"])
    at = (table.meta["site"] == "site2").to_numpy()
    assert np.array_equal(np.isfinite(one), at)
    people = table.meta["subject"][at].tolist()
    rest = ~at & ~table.meta["subject"].isin(people).to_numpy()
    assert rest.sum() < (~at).sum()  # some of them were scanned elsewhere too
    elsewhere = z.copy()
    elsewhere[~at & ~rest] = 1e6
    (two,) = leave_site_out(elsewhere, parts[0], used, ["site2"])
    assert np.array_equal(one[at], two[at])
    (median,) = leave_site_out(None, parts[0], used, ["site2"])
    assert (median[at] == np.median(table.meta["age"][rest])).all()


def test_intervals_of_a_constant_answer_are_its_chance_and_a_person_is_one_draw() -> None:
    table = official()
    parts = [fold.parts[TEST] for fold in read_folds(table.meta)]
    site = np.where(parts[0].test, "1", "").astype(object)
    said = [Prediction(np.where(rows.test, 40.0, np.nan), site) for rows in parts]
    ci = fold_intervals(parts, said, resamples=200, seed=0)
    assert ci["site_bacc"] == pytest.approx([1 / 8, 1 / 8])
    low, high = ci["mae_internal"]
    assert low < np.abs(40.0 - parts[0].age[parts[0].internal]).mean() < high
    held = [fold.parts[HELD_OUT] for fold in read_folds(table.meta)]
    answers = [
        Prediction(np.where(rows.test, 40.0, np.nan), np.where(rows.test, "4", "").astype(object)) for rows in held
    ]
    assert fold_intervals(held, answers, resamples=200, seed=0)["site_bacc"] == pytest.approx([1 / 6, 1 / 6])
    one = fold_intervals(parts[:1], said[:1], resamples=200, seed=0)
    assert one["mae_internal"] == pytest.approx(ci["mae_internal"])  # the same people in all folds: nothing gained
