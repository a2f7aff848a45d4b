"""The formula against the published private-test rows of the OpenBHB challenge (board of 2022-11-15, papers)."""

from __future__ import annotations

import pytest

from medssl.metrics.challenge import challenge

# L_c, external MAE [years], site balanced accuracy [%], all as printed
PUBLISHED = [
    (1.31, 2.85, 7.6),
    (1.468, 3.564, 5.2),
    (1.494, 3.596, 5.3),
    (1.526, 3.649, 5.5),
    (1.540, 3.761, 5.1),
    (1.572, 3.489, 7.0),
    (1.576, 3.878, 5.0),
    (1.655, 3.858, 5.9),
    (1.66, 2.92, 15.2),
    (1.71, 4.01, 5.8),
    (1.738, 4.098, 5.7),
    (1.815, 4.102, 6.6),
    (1.84, 4.43, 5.34),
    (1.86, 4.18, 6.7),
    (1.88, 4.76, 4.5),
    (2.02, 5.11, 4.5),
    (2.11, 3.65, 16.2),
    (2.21, 4.66, 8.3),
    (2.33, 5.23, 6.8),
    (3.34, 7.13, 8.0),
]


@pytest.mark.parametrize(("score", "error", "percent"), PUBLISHED)
def test_published_rows_reproduce_their_score(score: float, error: float, percent: float) -> None:
    assert challenge(percent / 100, error) == pytest.approx(score, abs=0.01)


def test_the_nearly_constant_entry_reproduces_within_the_rounding_of_its_accuracy() -> None:
    # the board prints BAcc .016: anything from .0155 to .0165, which moves the score by 0.04
    assert challenge(0.0155, 7.325) <= 2.105 <= challenge(0.0165, 7.335)


def test_the_misprinted_combat_densenet_row_follows_the_new_formula() -> None:
    # printed 5.08 (formula before 2022-09-19) and 3.38; BAcc 2.23 % and 10.48 years give 3.35
    assert challenge(0.0223, 10.48) == pytest.approx(3.35, abs=0.01)


def test_perfect_age_scores_zero_and_a_known_site_scores_the_external_error() -> None:
    assert challenge(0.4, 0.0) == 0.0
    assert challenge(1.0, 7.25) == 7.25


def test_score_falls_with_less_site_and_with_less_error() -> None:
    assert challenge(0.1, 5.0) < challenge(0.2, 5.0)
    assert challenge(0.1, 4.0) < challenge(0.1, 5.0)
