"""What the training scans of an encoder looked like, as its card says it, and how far a scan is from that.

Every kind of difference (``medssl.data.volumes.looks.KINDS``, and the encoder's own features) gives a distance: by how
many robust standard deviations its worst measure lies off the training rows' middle. How large an ordinary distance is
was found on rows held out: every fifth of the people was compared with the other four fifths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.data.volumes.looks import FLOORS, KINDS, MEASURES
from medssl.errors import UserError
from medssl.features.cloud import Cloud

Floats = NDArray[np.float64]
FEATURES = "features"
NAMES = (*KINDS, FEATURES)
"""Kinds of difference that have a distance, in the order of its columns."""
LEAST_ROWS = 20
"""Training rows below which nothing can be said."""
MOST_ROWS = 256
"""Training rows that are looked at, evenly spread."""
_FOLDS = 5
MARGIN, FAR = 1.6, 2.0
_LEAST, _ORDINARY = 4.0, 0.98
"""A scan is named where a distance is beyond MARGIN x what _ORDINARY of the held-out rows have, and _LEAST; for
features beyond FAR x that, because the encoder has seen the held-out rows too, and new people lie farther off."""
_POINTS = 65
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Likeness:
    """Robust statistics of the training rows.

    rows, people: that they were taken from. centre, low, high: (J,) middle of every measure, and its standard deviation
    below and above; J is channels x measures, channel by channel. span: (2, J) percentiles 2.5 and 97.5, for messages.
    limits: (len(NAMES),) largest distance that is not named. ranks: quantiles of the largest share of a limit that
    held-out rows reach. orientations: that were stored. cloud: of the encoder's features, None where it was not asked.
    """

    rows: int
    people: int
    centre: Floats
    low: Floats
    high: Floats
    span: Floats
    limits: Floats
    ranks: Floats
    orientations: tuple[int, ...] = ()
    cloud: Cloud | None = field(default=None)

    @classmethod
    def fit(cls, looks_NJ: Floats, features_NE: Floats | None, people: Sequence[str]) -> Likeness | None:
        """Statistics of N training rows; None where they are too few, or all of one or two people.

        looks_NJ: ``look_at`` of every row, flat, or no columns where the input is a table. people: who every row is.
        """
        names = sorted(set(people))
        if len(people) < LEAST_ROWS or len(names) < _FOLDS:
            return None
        place = {name: k % _FOLDS for k, name in enumerate(names)}
        fold_N = np.array([place[name] for name in people])
        measures_NJ, codes = _parted(looks_NJ)
        held_NK = np.zeros((len(people), len(NAMES)))
        for k in range(_FOLDS):
            rest, out = fold_N != k, fold_N == k
            cloud = None if features_NE is None else Cloud.fit(features_NE[rest])
            held_NK[out] = _distances(measures_NJ[out], *_middle(measures_NJ[rest]))
            if cloud is not None and features_NE is not None:
                held_NK[out, -1] = cloud.distance(features_NE[out])
        usual_K = np.quantile(held_NK, _ORDINARY, axis=0)
        limits = np.maximum(MARGIN * usual_K, _LEAST)
        limits[-1] = max(FAR * usual_K[-1], 1e-9)
        return cls(
            len(people),
            len(names),
            *_middle(measures_NJ),
            _quantiles(measures_NJ, (0.025, 0.975)),
            limits,
            np.quantile((held_NK / limits).max(1), np.linspace(0, 1, _POINTS)),
            tuple(sorted({int(code) for code in codes[np.isfinite(codes)]})),
            None if features_NE is None else Cloud.fit(features_NE),
        )

    def far(self, features_NE: NDArray[Any]) -> Floats:
        """How far features lie, (N,); 0 where the card says nothing of them."""
        return np.zeros(len(features_NE)) if self.cloud is None else self.cloud.distance(features_NE)

    def distances(self, looks_NJ: Floats, far_N: Floats | None) -> Floats:
        """Distances (N, len(NAMES)). far_N: ``cloud.distance`` of the features, None where they are not known."""
        measures_NJ, _ = _parted(looks_NJ)
        if measures_NJ.shape[1] != len(self.centre):
            raise UserError(
                f"the scans have {measures_NJ.shape[1] // len(MEASURES)} channels, but the encoder's card describes "
                f"{len(self.centre) // len(MEASURES)}; give the images that it was trained on"
            )
        out = _distances(measures_NJ, self.centre, self.low, self.high)
        if far_N is not None:
            out[:, -1] = far_N
        return out

    def unlike(self, distances_NK: Floats) -> Floats:
        """How unlike the training scans, (N,) 0 to 1: about the share of held-out training rows that are nearer."""
        reach_N = (distances_NK / self.limits).max(1)
        low, high = 1 / (self.rows + 1), self.rows / (self.rows + 1)
        share_N = np.interp(reach_N, self.ranks, np.linspace(low, high, len(self.ranks)))
        least, most = max(float(self.ranks[0]), 1e-12), max(float(self.ranks[-1]), 1e-12)
        share_N = np.where(reach_N < least, low * reach_N / least, share_N)
        beyond_N = 1 - (1 - high) * (most / np.maximum(reach_N, most)) ** 2
        return np.round(np.where(reach_N > most, beyond_N, share_N), 4)

    def worst(self, looks_NJ: Floats, kind: str) -> tuple[NDArray[np.intp], Floats]:
        """The measure (N,) of a kind, as column of the looks without orientations, that lies farthest off; its sign."""
        measures_NJ, _ = _parted(looks_NJ)
        off_NJ = np.nan_to_num(_off(measures_NJ, self.centre, self.low, self.high))
        columns = _columns(kind, measures_NJ.shape[1])
        chosen = columns[np.abs(off_NJ[:, columns]).argmax(1)]
        return chosen, np.sign(off_NJ[np.arange(len(off_NJ)), chosen])

    def to_dict(self) -> dict[str, Any]:
        """JSON values for the encoder's card."""
        return {
            "version": _VERSION,
            "rows": self.rows,
            "people": self.people,
            "measures": list(MEASURES),
            "kinds": list(NAMES),
            **{name: _listed(getattr(self, name)) for name in ("centre", "low", "high", "limits", "ranks")},
            "span": [_listed(line) for line in self.span],
            "orientations": list(self.orientations),
            "features": None if self.cloud is None else self.cloud.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Likeness | None:
        """Inverse of ``to_dict``; None where another medssl measured other things, or the entry is damaged."""
        try:
            if values["version"] != _VERSION or list(values["measures"]) != list(MEASURES):
                return None
            if list(values["kinds"]) != list(NAMES):
                return None
            centre, low, high, span, limits, ranks = (
                np.array(values[name], float) for name in ("centre", "low", "high", "span", "limits", "ranks")
            )
            cloud = None if values["features"] is None else Cloud.from_dict(values["features"])
            codes = tuple(int(code) for code in values["orientations"])
            rows, people = int(values["rows"]), int(values["people"])
            return cls(rows, people, centre, low, high, span, limits, ranks, codes, cloud)
        except (KeyError, TypeError, ValueError):
            return None


def _parted(looks_NJ: Floats) -> tuple[Floats, Floats]:
    """Measures (N, C * len(MEASURES)) and orientations (N, C) of flat ``look_at``."""
    by_channel = np.asarray(looks_NJ, float).reshape(len(looks_NJ), -1, len(MEASURES) + 1)
    return by_channel[:, :, :-1].reshape(len(looks_NJ), -1), by_channel[:, :, -1]


def orientations(looks_NJ: Floats) -> Floats:
    """Stored orientations (N, C), NaN where not known."""
    return _parted(looks_NJ)[1]


def measures(looks_NJ: Floats) -> Floats:
    """Measures (N, C * len(MEASURES)) without the orientations."""
    return _parted(looks_NJ)[0]


def _columns(kind: str, width: int) -> NDArray[np.intp]:
    """Columns of the measures of a kind, in every channel."""
    return np.array([k for k in range(width) if MEASURES[k % len(MEASURES)] in KINDS[kind]], dtype=np.intp)


def _quantiles(values_NJ: Floats, at: Sequence[float]) -> Floats:
    """Quantiles (len(at), J) of the known values; 0 of a column that nobody knows."""
    blank = np.isnan(values_NJ).all(0)
    return np.nanquantile(np.where(blank, 0.0, values_NJ), at, axis=0) if values_NJ.shape[1] else np.zeros((len(at), 0))


def _middle(values_NJ: Floats) -> tuple[Floats, Floats, Floats]:
    """Median of every measure, and its standard deviation below and above: from the 5th and 95th percentile."""
    least, quarter, middle, upper, most = _quantiles(values_NJ, (0.05, 0.25, 0.5, 0.75, 0.95))
    floor = np.array([FLOORS[MEASURES[k % len(MEASURES)]] for k in range(values_NJ.shape[1])])
    floor = np.maximum(floor, (upper - quarter) / 1.349)
    known = ~np.isnan(values_NJ).all(0)
    low = np.where(known, np.maximum((middle - least) / 1.645, floor), np.inf)
    high = np.where(known, np.maximum((most - middle) / 1.645, floor), np.inf)
    return middle, low, high


def _off(values_NJ: Floats, centre: Floats, low: Floats, high: Floats) -> Floats:
    """Standard deviations off the middle, with sign; NaN where the value is not known."""
    away = values_NJ - centre
    return away / np.where(away < 0, low, high)


def _distances(values_NJ: Floats, centre: Floats, low: Floats, high: Floats) -> Floats:
    """Distances (N, len(NAMES)) of all kinds but the features, which are 0."""
    off_NJ = np.abs(np.nan_to_num(_off(values_NJ, centre, low, high)))
    out = np.zeros((len(values_NJ), len(NAMES)))
    if values_NJ.shape[1]:
        for k, kind in enumerate(KINDS):
            out[:, k] = off_NJ[:, _columns(kind, values_NJ.shape[1])].max(1)
    return out


def _listed(values: Floats) -> list[float | None]:
    """Numbers for JSON, with six digits; what is not known is a large number."""
    return [float(f"{v:.6g}") for v in np.nan_to_num(values, posinf=1e30)]
