from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from medssl.features.cloud import DIRECTIONS, Cloud


def rows(n: int, width: int, seed: int = 0) -> np.ndarray:
    """Rows of one population: six hidden factors, and noise."""
    mixing = np.random.default_rng(7).normal(size=(6, width))
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)) @ mixing + 0.3 * rng.normal(size=(n, width)) + 5


def test_the_distance_is_that_of_the_shrunk_covariance_where_all_directions_are_kept():
    x = rows(200, 20)
    cloud = Cloud.fit(x)
    z = (x - x.mean(0)) / x.std(0)
    made = LedoitWolf(assume_centered=True).fit(z)
    other = rows(50, 20, seed=1)
    expected = np.sqrt(made.mahalanobis((other - x.mean(0)) / x.std(0)) / 20)
    assert cloud.distance(other) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "width"), [(40, 8), (30, 512), (256, 512)])
def test_it_survives_the_card_and_stays_small(n: int, width: int):
    x = rows(n, width)
    cloud = Cloud.fit(x)
    text = json.dumps(cloud.to_dict())
    assert len(text) < 60_000
    again = Cloud.from_dict(json.loads(text))
    assert len(again.directions) == min(DIRECTIONS, n, width)
    new = np.concatenate([rows(20, width, seed=3), rows(20, width, seed=3) + 9])
    assert again.distance(new) == pytest.approx(cloud.distance(new), rel=0.02)
    assert cloud.distance(x + 20 * x.std(0)).min() > cloud.distance(x).max()


def test_a_feature_that_never_moved_does_not_blow_up():
    x = rows(60, 10)
    x[:, 3] = 2.0
    assert Cloud.fit(x).distance(rows(10, 10)).max() < 200
    assert np.isfinite(Cloud.fit(np.ones((30, 4))).distance(np.ones((2, 4)))).all()
