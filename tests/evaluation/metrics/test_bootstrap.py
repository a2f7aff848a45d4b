from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, r2_score, root_mean_squared_error

from medssl.errors import UserError
from medssl.evaluation.metrics import bootstrap


def test_draws_equal_a_loop_that_repeats_the_rows_of_the_drawn_groups() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(12), [1, 2, 3, 1, 1, 2, 1, 4, 1, 1, 2, 1])
    true = rng.uniform(20, 80, len(subject))
    predicted = true + rng.normal(size=len(subject))
    site, guessed = rng.integers(0, 3, len(subject)), rng.integers(0, 3, len(subject))
    drawn = bootstrap.regression_draws(true, predicted, subject, resamples=7, seed=5)
    accuracy = bootstrap.balanced_accuracy_draws(site, guessed, subject, resamples=7, seed=5)
    counts_RG = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=7)
    for r, counts in enumerate(counts_RG):
        rows = np.repeat(np.arange(len(subject)), counts[subject])
        assert drawn["mae"][r] == pytest.approx(mean_absolute_error(true[rows], predicted[rows]))
        assert drawn["rmse"][r] == pytest.approx(root_mean_squared_error(true[rows], predicted[rows]))
        assert drawn["r2"][r] == pytest.approx(r2_score(true[rows], predicted[rows]))
        assert accuracy[r] == pytest.approx(balanced_accuracy_score(site[rows], guessed[rows]))


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = np.sqrt(2 / np.pi)  # mean |error| of standard normal errors
    covered = 0
    for trial in range(300):
        error = rng.normal(size=60)
        draws = bootstrap.regression_draws(np.zeros(60), error, np.arange(60), resamples=400, seed=trial)["mae"]
        low, high = bootstrap.interval(draws) or (np.nan, np.nan)
        covered += low <= truth <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_scans_of_one_person_move_together_so_the_interval_is_wider() -> None:
    rng = np.random.default_rng(1)
    error = np.repeat(rng.normal(size=40), 5)
    people, scans = np.repeat(np.arange(40), 5), np.arange(200)
    width = {}
    for name, group in (("people", people), ("scans", scans)):
        draws = bootstrap.regression_draws(np.zeros(200), error, group, resamples=2000, seed=0)["mae"]
        low, high = bootstrap.interval(draws) or (np.nan, np.nan)
        width[name] = high - low
    assert width["people"] > 1.8 * width["scans"]


def test_same_groups_and_seed_give_paired_draws() -> None:
    group, error = np.arange(30), np.random.default_rng(0).normal(size=30)
    one = bootstrap.regression_draws(np.zeros(30), np.abs(error), group, resamples=50, seed=3)["mae"]
    other = bootstrap.regression_draws(np.zeros(30), np.abs(error) + 1.0, group, resamples=50, seed=3)["mae"]
    assert np.allclose(other - one, 1.0)


def test_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    true, predicted, group = rng.normal(size=25), rng.normal(size=25), rng.integers(0, 9, 25)
    order = rng.permutation(25)
    one = bootstrap.regression_draws(true, predicted, group, resamples=20, seed=0)
    other = bootstrap.regression_draws(true[order], predicted[order], group[order], resamples=20, seed=0)
    assert all(np.allclose(one[name], other[name], rtol=1e-12) for name in one)


def test_splitting_the_work_in_parts_gives_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, group = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40)
    whole = bootstrap.resampled_sums(columns, group, resamples=30, seed=1)
    monkeypatch.setattr(bootstrap, "_CELLS", 200)
    assert np.allclose(whole, bootstrap.resampled_sums(columns, group, resamples=30, seed=1))


def test_undefined_draws_are_left_out_of_the_interval() -> None:
    assert bootstrap.interval([np.nan, 2.0, 2.0]) == (2.0, 2.0)
    assert bootstrap.interval([np.nan]) is None


def test_r2_of_a_single_person_is_undefined_in_every_draw() -> None:
    draws = bootstrap.regression_draws([30.0], [31.0], ["a"], resamples=5, seed=0)
    assert np.isnan(draws["r2"]).all()
    assert np.array_equal(draws["mae"], np.ones(5))


def test_two_thousand_resamples_of_a_thousand_people_are_quick() -> None:
    rng = np.random.default_rng(0)
    site = rng.integers(0, 64, 1000)
    start = time.process_time()
    bootstrap.regression_draws(rng.normal(size=1000), rng.normal(size=1000), np.arange(1000), resamples=2000, seed=0)
    bootstrap.balanced_accuracy_draws(site, site, np.arange(1000), resamples=2000, seed=0)
    assert time.process_time() - start < 3.0


def test_wrong_lengths_and_no_resamples_are_refused_in_words() -> None:
    with pytest.raises(UserError, match="one label per row"):
        bootstrap.resampled_sums(np.ones((3, 1)), [0, 1], resamples=5, seed=0)
    with pytest.raises(UserError, match="0 for no intervals"):
        bootstrap.resampled_sums(np.ones((2, 1)), [0, 1], resamples=-1, seed=0)


def test_a_class_that_a_draw_misses_keeps_its_recall_so_chance_stays_chance() -> None:
    """A constant guess has balanced accuracy 1 / classes in every draw that holds all of the guessed class."""
    site = np.array([0] * 40 + [1] * 2 + [2])
    draws = bootstrap.balanced_accuracy_draws(site, np.zeros_like(site), np.arange(43), resamples=500, seed=0)
    assert np.allclose(draws, 1 / 3)
    missed = bootstrap.balanced_accuracy_draws(site, site, np.arange(43), resamples=500, seed=0)
    assert np.allclose(missed, 1.0)
