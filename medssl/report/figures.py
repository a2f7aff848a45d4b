"""How figures look, how they are saved, and the 2-D map that the training monitor draws too.

Object-oriented matplotlib only: a ``Figure`` is made, never a global one; the same input gives the same bytes.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medssl.errors import UserError
from medssl.files import write_atomic
from medssl.report.words import natural

P = ParamSpec("P")
WIDTH = 7.6
"""Width of a figure in inches: the text column of an A4 page, and of a laptop screen after scaling."""
NARROW = 3.8
"""The same for a telephone, 400 pixels wide: panels stand below each other."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
"""Okabe and Ito's palette for all kinds of colour vision, without yellow (too faint on white)."""
BLUE, RED, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], "#8a8a8a"
LOOKS = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#222222", "X"),
    ("#7A3E9D", "*"),
)
"""Colour and shape of the groups of a map: each can be told from the others by either of them."""
MANY = 500
"""From so many points on, a scatter is stored as pixels inside the vector picture."""
_TALL = 0.85  # height of a map over its width
_FORMATS = ("png", "svg", "pdf")
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "medssl",
    "svg.fonttype": "path",
    "text.usetex": False,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the look of the report, whatever the user's matplotlib settings are."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def plain(text: object, limit: int = 26) -> str:
    """A user's word as a label: no mathematics, no control characters, not too long."""
    word = "".join(c if c.isprintable() else " " for c in str(text)).strip()
    word = word if len(word) <= limit else word[: limit - 1] + "…"
    word = word.replace("\\", "/").replace("$", r"\$")
    return f" {word}" if word.startswith("_") else word or "(none)"


def labels(names: Sequence[str], limit: int = 26) -> list[str]:
    """Names as labels of at most ``limit`` letters; where their beginnings are alike, with the place they differ in.

    >>> labels(["a" * 30 + "-one", "a" * 30 + "-two", "b"], 12)
    ['aaa…aaaa-one', 'aaa…aaaa-two', 'b']
    """
    short = [plain(name, limit) for name in names]
    for label in {s for s in short if short.count(s) > 1}:
        alike = [i for i, s in enumerate(short) if s == label]
        start = _alike([names[i] for i in alike])
        head = max(limit // 4, 1)
        for i in alike:
            begin = max(min(start - 4, len(names[i]) - (limit - head - 1)), head)
            short[i] = plain(f"{names[i][:head]}…{names[i][begin:]}", limit)
    return short


def _alike(names: Sequence[str]) -> int:
    """How many letters all names begin with."""
    differs = (i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1)
    return next(differs, min(map(len, names)))


def figure_bytes(fig: Figure, kind: str, dpi: int = 200, transparent: bool = False) -> bytes:
    """The figure as a file's content; no dates and no random ids inside. transparent: without its white ground."""
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }[kind]
    out = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks are drawn as boxes
        _settle(fig)
        fig.savefig(out, format=kind, metadata=metadata, dpi=dpi, transparent=transparent)
    return out.getvalue()


def _settle(fig: Figure) -> None:
    """Arrange the figure and round the places, since the layout solver's last digits differ between runs."""
    engine = fig.get_layout_engine()
    if engine is None:
        return
    engine.execute(fig)
    fig.set_layout_engine("none")
    for axes in fig.axes:
        left, bottom, width, height = (round(float(v), 4) for v in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
    for text in fig.texts:
        text.set_position((round(float(text.get_position()[0]), 4), round(float(text.get_position()[1]), 4)))


def save_figure(fig: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure whole or not at all; the ending says the format (png, svg, pdf).

    Raises UserError for another ending or when the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in _FORMATS:
        raise UserError(f"{path}: figures are written as .png, .svg or .pdf, not as '{path.suffix}'")
    return write_atomic(path, figure_bytes(fig, kind, dpi=150))


def stacked(width: float) -> bool:
    """Whether panels stand below each other in a figure of this width [inches]."""
    return width < 5.0


def from_zero(axes: Axes, direction: str = "x") -> None:
    """Let an axis begin just before 0, so that a dot at 0 is whole."""
    if direction == "x":
        axes.set_xlim(left=-0.03 * axes.get_xlim()[1])
    else:
        axes.set_ylim(bottom=-0.05 * axes.get_ylim()[1])


def no_ticks(axes: Axes) -> None:
    """A frame without numbers, for pictures and maps without units."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)


@styled
def scatter_map(
    points: np.ndarray,
    age: np.ndarray,
    site: Iterable[str],
    sex: Iterable[str],
    title: str = "",
    width: float = WIDTH,
) -> Figure:
    """A 2-D map of scans three times: coloured by age [years], by site (the eight with most scans) and by sex.

    points (N, 2); age (N,) with NaN where unknown; site and sex (N,) texts with "" where unknown. Points that
    are not finite are left out. width: in inches. Raises UserError when the lengths differ.
    """
    points_N2 = np.asarray(points, dtype=float)
    age_N = np.asarray(age, dtype=float)
    site_N, sex_N = np.asarray(_texts(site), dtype=object), np.asarray(_texts(sex), dtype=object)
    if points_N2.ndim != 2 or points_N2.shape[1] != 2 or {len(age_N), len(site_N), len(sex_N)} != {len(points_N2)}:
        raise UserError(
            f"a map needs points (N, 2) and one age, site and sex per point, not {points_N2.shape} and "
            f"{len(age_N)}, {len(site_N)}, {len(sex_N)} values"
        )
    fine_N = np.isfinite(points_N2).all(axis=1)
    below = stacked(width)
    fig = Figure(figsize=(width, 11.0 if below else 3.3), layout="constrained")
    if title:
        fig.suptitle(plain(title, 90), x=0.01, ha="left", fontsize=9.5)
    left, middle, right = fig.subplots(3, 1) if below else fig.subplots(1, 3)
    fig.get_layout_engine().set(wspace=0.04)  # type: ignore[union-attr,call-arg]
    for axes, name in ((left, "by age"), (middle, "by site"), (right, "by sex")):
        axes.set_title(name)
        no_ticks(axes)
        _frame(axes, points_N2[fine_N])
    _by_age(left, points_N2[fine_N], age_N[fine_N])
    sites = _by_group(middle, points_N2[fine_N], site_N[fine_N], "site")
    sexes = _by_group(right, points_N2[fine_N], sex_N[fine_N], "sex")
    if sites:
        columns = _columns(sites, width)
        sites = _by_row(sites, columns)
        height = 0.19 * -(-len(sites) // columns)
        names, close = [str(h.get_label()) for h in sites], {"handletextpad": 0.1, "columnspacing": 0.9}
        fig.set_figheight((10.6 if below else 3.05) + height)
        if below:
            middle.legend(sites, names, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=columns, **close)
        else:
            fig.legend(sites, names, loc="outside lower center", ncols=columns, **close)
    if sexes:
        right.legend(sexes, [str(h.get_label()) for h in sexes], loc="upper center", bbox_to_anchor=(0.5, -0.02),
                     ncols=3, handletextpad=0.1, columnspacing=0.9)  # fmt: skip
    return fig


def _texts(values: Iterable[str]) -> list[str]:
    return ["" if v is None or v != v else str(v) for v in values]


def dot_size(count: int) -> float:
    """Area of a dot in points squared, so that a thousand dots are still told apart."""
    return float(np.clip(4500.0 / max(count, 1), 3.0, 20.0))


def _frame(axes: Axes, points_N2: np.ndarray) -> None:
    """Limits that hold all points, with the same scale in both directions."""
    axes.set_box_aspect(_TALL)
    if len(points_N2):
        low_2, high_2 = points_N2.min(axis=0), points_N2.max(axis=0)
        (x, y), half_2 = (low_2 + high_2) / 2, (high_2 - low_2) / 2
        half = 1.07 * max(half_2[0], half_2[1] / _TALL, 1e-9)
        axes.set_xlim(x - half, x + half)
        axes.set_ylim(y - _TALL * half, y + _TALL * half)


def _columns(handles: Sequence[Line2D], width: float = WIDTH) -> int:
    """How many legend entries stand beside each other, so that the lines are about equally full."""
    longest = max(len(str(h.get_label())) for h in handles)
    most = max(1, int(width / (0.085 * longest + 0.38)))
    return -(-len(handles) // -(-len(handles) // most))


def _by_row(handles: Sequence[Line2D], columns: int) -> list[Line2D]:
    """Legends fill columns first; put into the order that then reads from left to right."""
    count = len(handles)
    return [handles[i] for c in range(columns) for i in range(c, count, columns)]


def _by_age(axes: Axes, points_N2: np.ndarray, age_N: np.ndarray) -> None:
    known_N = np.isfinite(age_N)
    size, pixels = dot_size(len(points_N2)), len(points_N2) > MANY
    x_N, y_N = points_N2[~known_N].T
    axes.scatter(x_N, y_N, s=size, facecolors="none", edgecolors="#b0b0b0", linewidths=0.7, rasterized=pixels)
    if known_N.any():
        mixed = np.random.default_rng(0).permutation(np.flatnonzero(known_N))  # no age lies on top of the others
        x_N, y_N = points_N2[mixed].T
        drawn = axes.scatter(x_N, y_N, s=size, c=age_N[mixed], cmap="viridis", linewidths=0, rasterized=pixels)
        place = axes.inset_axes((0.02, -0.075, 0.96, 0.04))
        bar = axes.figure.colorbar(drawn, cax=place, orientation="horizontal")
        bar.set_label("age (years)", labelpad=1)
        bar.outline.set_visible(False)


def _by_group(axes: Axes, points_N2: np.ndarray, group_N: np.ndarray, kind: str) -> list[Line2D]:
    """Draw the largest groups by colour and shape and the rest in grey; returns what a legend needs.

    kind: what the groups are, "site" or "sex".
    """
    names, counts = np.unique(group_N[group_N != ""].astype(str), return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")[: len(LOOKS)]]
    size, pixels, handles = dot_size(len(points_N2)), len(points_N2) > MANY, []
    others_N = (group_N != "") & ~np.isin(group_N.astype(str), largest)
    rest = len(names) - len(largest)
    for mask_N, fill, label in (
        (group_N == "", "none", f"{kind} unknown ({int((group_N == '').sum())})"),
        (others_N, "#b0b0b0", f"{rest} other {kind}{'' if rest == 1 else 's'} ({int(others_N.sum())})"),
    ):
        if mask_N.any():
            x_N, y_N = points_N2[mask_N].T
            axes.scatter(x_N, y_N, s=size, marker="o", facecolors=fill, edgecolors="#b0b0b0", linewidths=0.7,
                         rasterized=pixels)  # fmt: skip
            handles.append(Line2D([], [], ls="", marker="o", mfc=fill, mec="#b0b0b0", ms=4.5, label=label))
    ordered = sorted(largest, key=natural)
    for name, short, (colour, marker) in zip(ordered, labels(ordered, 28), LOOKS, strict=False):
        mine_N = group_N == name
        x_N, y_N = points_N2[mine_N].T
        axes.scatter(x_N, y_N, s=1.3 * size, c=colour, marker=marker, linewidths=0, alpha=0.85, rasterized=pixels)
        label = f"{short} ({int(mine_N.sum())})"
        handles.append(Line2D([], [], ls="", marker=marker, color=colour, ms=5, label=label))
    return handles[-len(largest) :] + handles[: -len(largest)] if len(largest) else handles
