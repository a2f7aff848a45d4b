from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from medssl.report import charts
from medssl.report.pictures import picture
from medssl.report.read import read_run
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
    svg = svg_of(picture(charts.scorecard_plot(ordered(scores)), "scores").uri)
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
    sheet = charts.view_sheet(files.slices, files.ages)
    assert "prefers-color-scheme" in svg_of(picture(sheet, "views").uri)
    assert "prefers-color-scheme" not in svg_of(picture(sheet, "views", photo=True).uri)
