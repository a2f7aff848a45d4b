from __future__ import annotations

import time

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.evaluation.online import map2d, online_probe


def data(rows: int = 400, width: int = 256, sites: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    age = rng.uniform(6, 86, rows)
    site = rng.integers(0, sites, rows).astype(float)
    features = rng.normal(size=(rows, width)) + np.outer(age / 20, rng.normal(size=width))
    features += rng.normal(size=(sites, width))[site.astype(int)]
    return features, age, site, np.arange(rows) // 2


def test_informative_features_beat_chance_within_half_a_second() -> None:
    features, age, site, subject = data()
    online_probe(features[:50], age[:50], site[:50], subject[:50])
    start = time.process_time()
    found = online_probe(features, age, site, subject)
    assert time.process_time() - start < 1.0
    assert found["age_mae"] is not None
    assert found["age_mae"] < 0.3 * found["age_chance"]
    assert found["site_bacc"] > 0.8
    assert found["site_chance"] == 0.125


def test_noise_is_near_chance() -> None:
    _, age, site, subject = data()
    found = online_probe(np.random.default_rng(9).normal(size=(400, 64)), age, site, subject)
    assert found["age_mae"] == pytest.approx(found["age_chance"], rel=0.25)
    assert found["site_bacc"] < 0.3


def test_a_subject_is_never_on_both_sides() -> None:
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(60), 4)
    identity = np.repeat(rng.normal(size=(60, 90)), 4, axis=0)
    age = np.repeat(rng.uniform(6, 86, 60), 4)
    found = online_probe(identity + 0.01 * rng.normal(size=identity.shape), age, None, person)
    assert found["age_mae"] > 0.6 * found["age_chance"]


def test_same_seed_same_answer_and_another_seed_another_hold_out() -> None:
    features, age, site, subject = data(rows=120, width=8)
    one = online_probe(features, age, site, subject, seed=1)
    assert one == online_probe(features, age, site, subject, seed=1)
    assert one["age_chance"] != online_probe(features, age, site, subject, seed=2)["age_chance"]


def test_age_chance_is_the_fitted_median_on_the_held_out_rows() -> None:
    features, age, _, _ = data(rows=4, width=2)
    found = online_probe(np.tile(features, (3, 1)), np.tile(age, 3), None, None, holdout=0.5, seed=0)
    held = np.zeros(12, dtype=bool)
    held[np.random.default_rng(0).permutation(12)[:6]] = True
    ages = np.tile(age, 3)
    assert found["age_chance"] == pytest.approx(np.abs(ages[held] - np.median(ages[~held])).mean())


def test_missing_labels_and_one_site_give_none() -> None:
    features, age, site, subject = data(rows=80, width=5)
    assert online_probe(features, None, None) == dict.fromkeys(("age_mae", "age_chance", "site_bacc", "site_chance"))
    found = online_probe(features, np.full(80, np.nan), np.zeros(80), subject)
    assert set(found.values()) == {None}
    half = np.where(np.arange(80) < 40, age, np.nan)
    found = online_probe(features, half, np.where(site > 3, -1, site), subject)
    assert found["age_mae"] is not None
    assert found["site_chance"] == 0.25


def test_text_sites_and_codes_give_the_same_answer() -> None:
    features, age, site, subject = data(rows=100, width=5)
    missing = site.copy()
    missing[:10] = np.nan
    names = np.array(["" if np.isnan(s) else f"s{s:.0f}" for s in missing], dtype=object)
    assert online_probe(features, age, names, subject) == online_probe(features, age, missing, subject)


def test_rows_that_are_not_finite_are_left_out() -> None:
    features, age, site, subject = data(rows=100, width=5)
    features[::7] = np.nan
    assert online_probe(features, age, site, subject)["age_mae"] is not None
    assert set(online_probe(np.full((100, 5), np.nan), age, site, subject).values()) == {None}


def test_collapsed_features_are_at_chance() -> None:
    _, age, site, subject = data(rows=200)
    found = online_probe(np.ones((200, 16)), age, site, subject)
    assert found["age_mae"] == pytest.approx(found["age_chance"], rel=0.05)
    assert found["site_bacc"] == pytest.approx(found["site_chance"])


def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        online_probe(np.ones((4, 2)), None, None, holdout=1.0)
    with pytest.raises(UserError, match="one entry per row"):
        online_probe(np.ones((4, 2)), np.ones(3), None)


def distances(xy: np.ndarray) -> np.ndarray:
    return np.linalg.norm(xy[:, None] - xy[None], axis=2)


@pytest.mark.parametrize("shape", [(50, 7), (7, 50)])
def test_map_holds_the_two_largest_components_with_fixed_signs(shape: tuple[int, int]) -> None:
    z = np.random.default_rng(0).normal(size=shape) * np.geomspace(9, 1, shape[1])
    xy = map2d(z)
    centred = z - z.mean(0)
    sigma = np.linalg.svd(centred, compute_uv=False)
    assert np.linalg.norm(xy, axis=0) == pytest.approx(sigma[:2], rel=1e-9)
    loadings = centred.T @ xy
    assert (loadings[np.abs(loadings).argmax(axis=0), [0, 1]] > 0).all()
    assert np.allclose(map2d(z + 5.0), xy)


def test_map_returns_to_the_map_before_when_the_features_turn() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 6)) * [5, 4.8, 1, 1, 1, 1]
    before = map2d(z)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    after = map2d(z @ turn, before)
    assert np.allclose(after, before)
    assert np.allclose(map2d(-z, before), before)


def test_turning_keeps_distances_and_is_the_best_of_all_turns() -> None:
    rng = np.random.default_rng(1)
    z, previous = rng.normal(size=(30, 5)), rng.normal(size=(30, 2))
    free, laid = map2d(z), map2d(z, previous)
    assert np.allclose(distances(free), distances(laid))
    target = previous - previous.mean(0)
    best = min(
        np.linalg.norm(free @ np.array([[np.cos(a), -np.sin(a) * s], [np.sin(a), np.cos(a) * s]]) - target)
        for a in np.linspace(0, 2 * np.pi, 721)
        for s in (1, -1)
    )
    assert np.linalg.norm(laid - target) <= best + 1e-9


def test_map_of_one_dimension_and_of_constant_features_is_finite() -> None:
    assert map2d(np.arange(5.0)[:, None])[:, 1].tolist() == [0.0] * 5
    assert np.array_equal(map2d(np.ones((4, 6))), np.zeros((4, 2)))
    assert map2d(np.ones((1, 6))).shape == (1, 2)


def test_rows_that_are_not_finite_have_no_place_on_the_map() -> None:
    z = np.random.default_rng(0).normal(size=(6, 3))
    z[2, 0] = np.inf
    xy = map2d(z, map2d(z))
    assert np.isnan(xy[2]).all()
    assert np.isfinite(np.delete(xy, 2, axis=0)).all()


def test_a_previous_map_of_other_rows_is_refused() -> None:
    with pytest.raises(UserError, match="same rows"):
        map2d(np.ones((4, 3)), np.ones((5, 2)))
