from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medssl.report import charts, curves
from medssl.report.course import _map
from medssl.report.figures import NARROW, WIDTH
from medssl.report.pictures import picture
from medssl.report.read import Row, read_run
from medssl.report.words import ordered
from tests.report.contrast import contrast

DARK = "#15191d"
SHAPES_ONLY = {"#2b3137", DARK}
"""The grid and the ground of notes, which need not stand out."""


def svg_of(uri: str) -> str:
    return base64.b64decode(uri.partition("base64,")[2]).decode()


def test_on_a_dark_page_every_colour_of_a_figure_stands_out(whole_run: Path):
    scores = read_run(whole_run).scores
    assert scores is not None
    svg = svg_of(picture(partial(charts.scorecard_plot, ordered(scores)), "scores").uri)
    ElementTree.fromstring(svg)
    style, _, body = svg.partition("</style>")
    turned = dict(re.findall(r'\[style\*="(?:fill|stroke): (#[0-9a-f]{6})"\] \{ \w+: (#[0-9a-f]{6})', style))
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body))
    assert {"#222222", "#0072b2", "#e6e6e6"} <= used
    assert "#ffffff" not in used, "the ground is that of the page"
    for colour in used:
        shown = turned.get(colour, colour)
        assert shown in SHAPES_ONLY or contrast(shown, DARK) >= 3, colour


def test_pictures_of_scans_keep_their_greys(whole_run: Path):
    files = read_run(whole_run)
    assert files.slices is not None
    sheet = partial(charts.view_sheet, files.slices, files.ages, 4)
    assert "prefers-color-scheme" in svg_of(picture(sheet, "views").uri)
    assert "prefers-color-scheme" not in svg_of(picture(sheet, "views", photo=True).uri)


def test_on_a_telephone_letters_keep_their_size_and_panels_stand_below_each_other(whole_run: Path):
    files = read_run(whole_run)
    assert files.scores is not None
    assert files.steps is not None
    assert files.probes is not None
    rows = ordered(files.scores)
    for draw in (partial(charts.scorecard_plot, rows), partial(curves.curves, files.steps),
                 partial(curves.probe_curves, files.probes), partial(_map, files.maps[0][1], 5)):  # fmt: skip
        wide, small = draw(WIDTH), draw(NARROW)
        assert small.get_figwidth() == NARROW
        assert small.get_figheight() > wide.get_figheight()
        assert abscissae(small) < abscissae(wide)
        assert len(small.axes) >= len(wide.axes) - 2
    both = picture(partial(charts.scorecard_plot, rows), "scores")
    assert 'width="273' in svg_of(both.small)[:1500], "3.8 inches in points"
    assert both.small != both.uri


def abscissae(fig: Figure) -> int:
    """How many panels stand beside each other."""
    return fig.axes[0].get_gridspec().ncols


def test_a_dot_at_0_is_whole():
    row = Row("age_oracle", {"mae_external": 0.0, "site_bacc": 0.0}, {})
    fig = charts.scorecard_plot([Row("encoder", {"mae_external": 5.0, "site_bacc": 0.4}, {}), row])
    assert [axes.get_xlim()[0] < 0 for axes in fig.axes] == [True, True]
    sites = pd.DataFrame({"site": ["a"], "split": ["external_test"], "n": [5], "mae": [0.0], "low": [0.0],
                          "high": [1.0], "untrained": [np.nan]})  # fmt: skip
    assert charts.site_plot(sites).axes[0].get_xlim()[0] < 0
    probes = pd.DataFrame({"epoch": [0.0, 1.0], "age_mae": [2.0, 1.0], "site_bacc": [0.0, 0.4]})
    assert all(axes.get_ylim()[0] < 0 for axes in curves.probe_curves(probes).axes[:2])
