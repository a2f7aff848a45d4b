"""What is said of scans that look unlike the training scans of an encoder: one sentence for every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.looks import MEASURES, orientation_of
from medssl.errors import count
from medssl.features.likeness import FAR, FEATURES, NAMES, Floats, Likeness, measures, orientations

ORIENTATION = "orientation"
UNLIKE = "unlike"
"""The column of a table, and in provenance the sentences about scans that look unlike the training scans."""
NO_LIKENESS = (
    "this encoder's card does not say what its training scans looked like (it was written by an older medssl, or after "
    "training on too few people), so nothing can be said about whether these scans look like them"
)
SHIFT = "shift"
_RARE, _SHARE, _FEWEST, _CHANCE = 0.95, 0.25, 10, 0.001
"""Scans of one place, at least _FEWEST, differ as a whole where a share of _SHARE is beyond _RARE, and so many would be
there by chance with a probability of _CHANCE if twice the usual share were."""
_OPPOSITE = 0.5
"""Contrast counts as inverted where it has the other sign and at least this share of the usual size."""
_SAID: dict[str, tuple[str, str, bool]] = {
    "filled": ("share of voxels that are not 0", "{:.0%}", False),
    "volume": ("volume inside the mask", "{:.0f} ml", True),
    "depth": ("correlation of brightness with depth", "{:.2f}", False),
    "long_y": ("length over width", "{:.2f}", True),
    "long_z": ("height over width", "{:.2f}", True),
    "lean_xy": ("tilt in the plane of left-right and back-front (correlation of the two coordinates)", "{:.2f}", False),
    "lean_xz": ("tilt in the plane of left-right and bottom-top (correlation of the two coordinates)", "{:.2f}", False),
    "lean_yz": ("tilt in the plane of back-front and bottom-top (correlation of the two coordinates)", "{:.2f}", False),
    "mirror": ("correlation with its mirror image", "{:.2f}", False),
    "heavy_x": ("skewness of the shape from left to right", "{:.2f}", False),
    "heavy_y": ("skewness of the shape from back to front", "{:.2f}", False),
    "heavy_z": ("skewness of the shape from bottom to top", "{:.2f}", False),
    "finest": ("shortest side of a voxel", "{:.3g} mm", True),
    "coarsest": ("longest side of a voxel", "{:.3g} mm", True),
    "sharpness": ("difference of neighbours over that of next neighbours", "{:.2f}", True),
    "fov_x": ("field of view from left to right", "{:.0f} mm", True),
    "fov_y": ("field of view from back to front", "{:.0f} mm", True),
    "fov_z": ("field of view from bottom to top", "{:.0f} mm", True),
    "cut": ("share of the grid's border that is not background", "{:.0%}", False),
    "off_x": ("distance to the right of the grid's middle", "{:.0f} mm", False),
    "off_y": ("distance before the grid's middle", "{:.0f} mm", False),
    "off_z": ("distance above the grid's middle", "{:.0f} mm", False),
    "level": ("middle intensity", "{:.2f}", False),
    "spread": ("range of intensities", "{:.3g}", True),
    "skewness": ("skewness of the intensities", "{:.2f}", False),
    "tails": ("kurtosis of the intensities", "{:.2f}", True),
}
"""Measure -> what it is, how a value is written, and whether it was taken as a logarithm."""


@dataclass(frozen=True, eq=False)
class Notice:
    """One kind of difference. rows: places of the scans, worst first. text: the sentence. harmless: only said."""

    kind: str
    rows: NDArray[np.intp]
    text: str
    harmless: bool = False


@dataclass(frozen=True, eq=False)
class Verdict:
    """unlike: (N,) from 0 to 1, see ``Likeness.unlike``. notices: what is to be said, none where all is well."""

    unlike: Floats
    notices: tuple[Notice, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What is to be said."""
        return [notice.text for notice in self.notices]

    @property
    def refusal(self) -> str | None:
        """The one sentence with which --strict refuses these scans; None where it does not."""
        told = [notice.text for notice in self.notices if not notice.harmless]
        return f"{'; '.join(told)}; drop them, or leave out --strict (strict)" if told else None


def judge(
    likeness: Likeness,
    looks_NJ: Floats,
    far_N: Floats | None,
    where: Callable[[int], str],
    places: Sequence[str] | None = None,
) -> Verdict:
    """Compare scans with the training scans.

    looks_NJ: flat ``look_at`` of N scans. far_N: distances of their features, None where these were not made. where:
    what messages call scan k. places: (N,) site or data set of each scan, "" where it is not known; scans of one place
    that all lie a little off, none of them far, are told of as a whole.
    """
    distances_NK = likeness.distances(looks_NJ, far_N)
    named = _explained(likeness, looks_NJ, distances_NK)
    notices = []
    for k, kind in enumerate(NAMES):
        rows = np.flatnonzero(named[kind])
        if len(rows):
            rows = rows[np.argsort(-distances_NK[rows, k], kind="stable")]
            worst = int(rows[0])
            first = f"{where(worst)}, {_detail(likeness, looks_NJ, float(distances_NK[worst, k]), kind, worst)}"
            notices.append(Notice(kind, rows, _sentence(likeness, looks_NJ, kind, rows, first)))
    other = _other_orientations(likeness, looks_NJ, where)
    unlike_N = likeness.unlike(distances_NK)
    alone_N = ~np.any([named[kind] for kind in NAMES], axis=0)
    shifted = _shifted(unlike_N, alone_N, places or [""] * len(unlike_N))
    return Verdict(unlike_N, (*notices, *shifted, *other))


def places_of(cohort: Cohort) -> list[str]:
    """Where every scan of a cohort is from: its site, or else its data set."""
    table = cohort.table
    return [str(site or name) for site, name in zip(table["site"], table["dataset"], strict=True)]


def _shifted(unlike_N: Floats, alone_N: NDArray[np.bool_], places: Sequence[str]) -> Sequence[Notice]:
    """Places whose scans lie off as a whole: many more of them beyond _RARE than of held-out training scans."""
    found = []
    names = np.array([str(place) for place in places])
    for name in dict.fromkeys(names.tolist()):
        all_here = int((names == name).sum())
        inside = np.flatnonzero((names == name) & alone_N)
        far = inside[unlike_N[inside] > _RARE]
        chance = binom.sf(len(far) - 1, len(inside), 2 * (1 - _RARE))
        if len(inside) < _FEWEST or len(far) < _SHARE * len(inside) or chance > _CHANCE:
            continue
        of = f" of {name}" if name else ""
        scans = f"{len(inside)} scans{of}"
        if len(inside) < all_here:
            scans = f"the other {len(inside)} scans{of} ({all_here} in all)"
        usual = max(1, round((1 - _RARE) * len(inside)))
        text = (
            f"{len(far)} of {scans} lie farther off than {_RARE:.0%} of the held-out training scans "
            f"(about {usual} would be usual), though none very far: they differ as a whole, as after another "
            "skull-stripping or on another scanner; prepare them like the training scans, or expect larger errors"
        )
        found.append(Notice(SHIFT, far[np.argsort(-unlike_N[far], kind="stable")], text))
    return found


def _explained(likeness: Likeness, looks_NJ: Floats, distances_NK: Floats) -> dict[str, NDArray[np.bool_]]:
    """The kinds that a scan is named for, without what only follows from another one."""
    far = dict(zip(NAMES, distances_NK.T, strict=True))
    named = {name: far[name] > limit for name, limit in zip(NAMES, likeness.limits, strict=True)}
    if not measures(looks_NJ).shape[1]:
        return named
    inverted = _inverted(likeness, looks_NJ)
    larger = likeness.worst(looks_NJ, "stripping")[1] > 0
    head, less = named["stripping"] & larger, named["stripping"] & ~larger
    named["field"] &= ~head | _worst_is(likeness, looks_NJ, "field", ("fov_x", "fov_y", "fov_z"))
    named["stripping"] = head | (less & ~named["field"])
    named["turned"] &= ~head & ~(named["field"] & (less | (far["field"] > far["turned"])))
    blurred = _worst_is(likeness, looks_NJ, "resolution", ("sharpness",))
    named["resolution"] &= ~(blurred & (head | (named["contrast"] & inverted)))
    named["contrast"] &= inverted | ~(head | less | named["field"] | named["turned"] | named["resolution"])
    known = head | less | np.any([named[kind] for kind in ("contrast", "turned", "resolution", "field")], axis=0)
    named["intensities"] &= ~known
    named[FEATURES] &= ~(known | named["intensities"])
    return named


def _worst_is(likeness: Likeness, looks_NJ: Floats, kind: str, names: Sequence[str]) -> NDArray[np.bool_]:
    """Scans whose worst measure of a kind is one of these, (N,)."""
    return np.array([MEASURES[k % len(MEASURES)] in names for k in likeness.worst(looks_NJ, kind)[0]], dtype=bool)


def _inverted(likeness: Likeness, looks_NJ: Floats) -> NDArray[np.bool_]:
    """Scans whose rim and core have changed places in brightness, (N,)."""
    values_NJ = measures(looks_NJ)
    columns = [k for k in range(values_NJ.shape[1]) if MEASURES[k % len(MEASURES)] == "depth"]
    usual, seen_NC = likeness.centre[columns], np.nan_to_num(values_NJ[:, columns])
    opposite = (np.sign(seen_NC) == -np.sign(usual)) & (np.abs(seen_NC) > _OPPOSITE * np.abs(usual))
    return np.asarray(opposite.any(1), bool)


def _sentence(likeness: Likeness, looks_NJ: Floats, kind: str, rows: NDArray[np.intp], first: str) -> str:
    """What is to be said of a kind."""
    variant = False
    if kind == "contrast":
        variant = bool(_inverted(likeness, looks_NJ[rows[:1]])[0])
    elif kind == "stripping":
        variant = bool(likeness.worst(looks_NJ[rows[:1]], kind)[1][0] > 0)
    what, remedy = _WORDS[kind, variant]
    looks, them, their = ("looks", "it", "its") if len(rows) == 1 else ("look", "them", "their")
    scans = "this scan" if len(looks_NJ) == 1 else f"{len(rows)} of {count(len(looks_NJ), 'scan')}"
    remedy = remedy.format(them=them, their=their)
    return f"{scans} {looks} unlike the {likeness.rows} training scans ({what}: {first}); {remedy}"


_WORDS = {
    ("stripping", True): (
        "not skull-stripped, or with a background that is not 0",
        "prepare {them} as the training scans were",
    ),
    ("stripping", False): ("less than a brain is left", "look at {their} skull-stripping"),
    ("contrast", True): (
        "contrast inverted, as in another sequence",
        "give images of the sequence that the encoder was trained on",
    ),
    ("contrast", False): (
        "another contrast between rim and core",
        "look at {their} sequence, bias field and smoothness",
    ),
    ("turned", False): ("head turned or flipped", "look at {them} and at the orientation in {their} header"),
    ("resolution", False): ("another resolution", "expect other features, or give scans of the training's voxel size"),
    ("field", False): ("another field of view, or cut off", "look at whether the whole brain is inside"),
    ("intensities", False): ("other intensities", "look at artefacts in {them} and at {their} preparation"),
    (FEATURES, False): ("far off in the encoder's features", "look at {them} before you trust {their} features"),
}


def _detail(likeness: Likeness, looks_NJ: Floats, far: float, kind: str, row: int) -> str:
    """The worst measure of a scan beside the range of the training rows."""
    if kind == FEATURES:
        held_out = likeness.limits[-1] / FAR
        return (
            f"whose features lie {far:.2g} times as far from their mean as usual (Mahalanobis distance), nearly all "
            f"held-out training scans below {held_out:.2g} times"
        )
    place = int(likeness.worst(looks_NJ[row : row + 1], kind)[0][0])
    what, form, logarithm = _SAID[MEASURES[place % len(MEASURES)]]
    three = np.array([measures(looks_NJ)[row, place], *likeness.span[:, place]])
    value, low, high = (form.format(v) for v in (np.exp(three) if logarithm else three))
    usual = f"in training {low}" if low == high else f"in training mostly {low} to {high}"
    channel = place // len(MEASURES)
    return f"whose {what}{f' in image {channel + 1}' if channel else ''} is {value}, {usual}"


def _other_orientations(likeness: Likeness, looks_NJ: Floats, where: Callable[[int], str]) -> Sequence[Notice]:
    """Orientations of the files that no training scan had; harmless where the header is right."""
    stored_NC = orientations(looks_NJ)
    new_N = (np.isfinite(stored_NC) & ~np.isin(stored_NC, list(likeness.orientations))).any(1)
    rows = np.flatnonzero(new_N)
    if not len(rows) or not likeness.orientations:
        return ()
    code = orientation_of(next(c for c in stored_NC[rows[0]] if np.isfinite(c) and c not in likeness.orientations))
    usual = ", ".join(orientation_of(c) for c in likeness.orientations)
    scans = "this scan is" if len(looks_NJ) == 1 else f"{len(rows)} of {len(looks_NJ)} scans are"
    text = (
        f"{scans} stored in an orientation that no training scan had (such as {where(int(rows[0]))}: {code}, training "
        f"{usual}), and turned to RAS by the header; look at one to see whether the header is right"
    )
    return (Notice(ORIENTATION, rows, text, harmless=True),)
