"""Figures as they stand in the page: vectors in the text of the page itself, for light and dark."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from medssl.report.figures import NARROW, WIDTH, figure_bytes

_DARK = {
    "#000000": "#e6e9ec",
    "#222222": "#e6e9ec",
    "#333333": "#c9d0d6",
    "#444444": "#b9c2ca",
    "#555555": "#b9c2ca",
    "#777777": "#97a1aa",
    "#8a8a8a": "#97a1aa",
    "#b0b0b0": "#67727b",
    "#e6e6e6": "#2b3137",
    "#ffffff": "#15191d",
    "#0072b2": "#3b93d6",
    "#d55e00": "#f07f2e",
    "#009e73": "#2fc79a",
    "#56b4e9": "#9fd8f7",
    "#7a3e9d": "#b48be0",
}
"""Greys and dark colours of figures -> what they become on a dark page."""


@dataclass(frozen=True)
class Picture:
    """A figure for the page: data URIs for a wide and a small screen, text for those who cannot see it, caption."""

    uri: str
    small: str
    alt: str
    caption: str


def _dark_style() -> bytes:
    """A style sheet for an SVG by matplotlib, which writes colours as style attributes in small letters."""
    rules = [
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    ]
    return (
        f"<style>@media (prefers-color-scheme: dark) {{ svg {{ fill: #e6e9ec }} {' '.join(rules)} }}</style>".encode()
    )


def picture(draw: Callable[[float], Figure], alt: str, caption: str = "", photo: bool = False) -> Picture:
    """A figure as data URIs, as vectors on the ground of the page; scripts inside an image never run.

    draw: makes the figure for a width in inches; its letters keep their size, so that both can be read. photo: holds
    pictures of scans, so that its greys stay as they are on a dark page too.
    """
    return Picture(_uri(draw(WIDTH), photo), _uri(draw(NARROW), photo), alt, caption)


def _uri(fig: Figure, photo: bool) -> str:
    svg = figure_bytes(fig, "svg", transparent=True)
    if not photo:
        svg = svg.replace(b"</metadata>", b"</metadata>" + _dark_style(), 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
