"""The terms of the page, each explained in one sentence where it is used first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A term: what it looks like in a text, and what it means in one sentence."""

    pattern: re.Pattern[str]
    sentence: str


def _term(pattern: str, sentence: str) -> Term:
    return Term(re.compile(pattern, re.IGNORECASE), sentence)


TERMS = (
    _term(
        r"\bencoder\b",
        "An encoder is a neural network that turns a scan into a list of numbers, its features.",
    ),
    _term(
        r"\bage error\b|\bMAE\b|mean absolute error",
        "The age error is the mean absolute error (MAE): the number of years by which the predicted age is off, on "
        "average.",
    ),
    _term(
        r"\bunseen sites?\b",
        "Unseen sites are hospitals or scanners with no scan in the training, so they show what to expect in a "
        "new hospital.",
    ),
    _term(
        r"\bknown sites?\b",
        "Known sites are hospitals or scanners with scans in the training; the people tested here are others.",
    ),
    _term(
        r"\b95\s%|\binterval\b",
        "A 95 % interval says how far a number might move if other people had been tested (bootstrap: the people "
        "tested are drawn again and again); the wider it is, the less certain the number.",
    ),
    _term(
        r"\bridge on voxels\b",
        "Ridge on voxels is the simple baseline: a linear model (ridge regression) that reads age from the grey "
        "values of the scan, without any network.",
    ),
    _term(
        r"\bridge on the measures\b",
        "Ridge on the measures is the simple baseline: a linear model (ridge regression) that reads age from the "
        "columns of the table, without any network.",
    ),
    _term(
        r"\bchance\b",
        "Chance is what guessing reaches without looking at a scan.",
    ),
    _term(
        r"\bbalanced accuracy\b",
        "Balanced accuracy is the share of scans whose site is named correctly, taken for each site and then averaged, "
        "so that a large site counts no more than a small one.",
    ),
    _term(
        r"\buntrained\b",
        "The untrained encoder is the same network with the random weights it starts from: what it can do was not "
        "learned from any scan.",
    ),
    _term(
        r"\blinear probes?\b",
        "A linear probe is a simple model fitted on the features; the encoder itself is not changed.",
    ),
    _term(
        r"\bchallenge score\b",
        "The challenge score (OpenBHB) is the site's balanced accuracy to the power 0.3, times the age error on unseen "
        "sites: lower is better.",
    ),
    _term(
        r"\bharmonis|\bharmoniz",
        "Harmonised means that differences between scanners were estimated on the training scans and taken out of the "
        "features before scoring.",
    ),
    _term(
        r"\bmedian age of the site\b",
        "The median age of the site is a guess that knows only where a scan was made, and never looks at it.",
    ),
    _term(
        r"\bconstant features\b",
        "Constant features are the same for every scan, so everyone is given the same age.",
    ),
    _term(
        r"\btrue age as feature\b",
        "True age as feature is the best that can be reached: the probe is told the age.",
    ),
    _term(
        r"\bRMSE\b",
        "RMSE (root mean squared error, in years) is like the mean absolute error, but large errors count more.",
    ),
    _term(
        r"\bR2\b|\bR²",
        "R² says how much of the spread of ages is predicted: 1 is everything, 0 is no better than giving everyone the "
        "mean age, and below 0 is worse than that.",
    ),
)
"""In the order in which explanations stand where several terms are new."""


class Glossary:
    """Remembers which terms a page has explained already."""

    def __init__(self) -> None:
        self._open = list(TERMS)

    def explain(self, *texts: object) -> list[str]:
        """One sentence for every term that these texts are the first to use.

        >>> glossary = Glossary()
        >>> glossary.explain("Chance is 14 %."), glossary.explain("better than chance")
        (['Chance is what guessing reaches without looking at a scan.'], [])
        """
        sentences: list[str] = []
        queue = [str(text) for text in texts]
        while queue:
            text = queue.pop(0)
            for term in self._first_used(text):
                self._open.remove(term)
                sentences.append(term.sentence)
                queue.append(term.sentence)
        return sentences

    def _first_used(self, text: str) -> Iterable[Term]:
        return [term for term in self._open if term.pattern.search(text)]
