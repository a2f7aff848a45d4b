from __future__ import annotations

import itertools

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.views import TARGETS, rng_for


def test_the_same_numbers_give_the_same_stream():
    assert rng_for(3, 4, 5, 1).random(4).tolist() == rng_for(3, 4, 5, 1).random(4).tolist()
    assert rng_for(np.int64(3), np.int64(4), np.int64(5), np.int64(1)).random() == rng_for(3, 4, 5, 1).random()


def test_the_stream_is_pinned_so_that_a_release_cannot_move_views_unnoticed():
    assert rng_for(0, 0, 0, 0).integers(2**32, size=3).tolist() == [3421237994, 1910255790, 3480231650]


def test_neighbouring_numbers_and_exchanged_numbers_give_other_streams():
    keys = itertools.product((0, 1, 2**40), (0, 1, 7), (0, 1, 7), (TARGETS, 0, 1))
    firsts = [rng_for(*key).random() for key in keys]
    assert len(set(firsts)) == len(firsts)


def test_every_repeat_of_a_draw_has_a_stream_of_its_own_and_the_first_one_the_stream_of_four_numbers():
    keys = list(itertools.product((0, 7), (0, 1), (0, 1), (TARGETS, 0, 1), range(4)))
    firsts = [rng_for(*key).random() for key in keys]
    assert len(set(firsts)) == len(firsts)
    assert rng_for(0, 0, 0, 0, 0).integers(2**32, size=3).tolist() == [3421237994, 1910255790, 3480231650]
    assert rng_for(0, 0, 0, 0, 1).integers(2**32, size=3).tolist() == [1438401565, 1413081347, 2610375852]


def test_streams_of_many_scans_are_uniform_and_uncorrelated():
    first = np.array([[rng_for(0, 0, scan, view).random() for view in (0, 1)] for scan in range(2000)])
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.03
    assert abs(np.corrcoef(first.T)[0, 1]) < 0.07
    assert abs(np.corrcoef(first[1:, 0], first[:-1, 0])[0, 1]) < 0.07


@pytest.mark.parametrize(
    "key", [(-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, -1, 0), (0, 0, 0, -2), (0, 0, 2**32, 0), (0, 0, 0, 0, -1)]
)
def test_a_number_outside_its_range_is_refused(key):
    with pytest.raises(UserError, match="must be a whole number from"):
        rng_for(*key)


def test_a_fraction_is_refused():
    with pytest.raises(UserError, match=r"seed is 1\.5"):
        rng_for(1.5, 0, 0, 0)
