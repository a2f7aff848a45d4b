from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from medssl.errors import UserError
from medssl.report.figures import figure_bytes, labels, plain, save_figure, scatter_map


def some_map(count: int = 60, sites: int = 4):
    rng = np.random.default_rng(0)
    age = rng.uniform(6, 90, count)
    age[:5] = np.nan
    site = ["" if i < 3 else f"site {i % sites}" for i in range(count)]
    return scatter_map(rng.normal(size=(count, 2)), age, site, ["F", "M", ""] * (count // 3), "after epoch 3")


def test_a_map_has_three_panels_with_a_scale_for_age_and_legends_for_groups():
    fig = some_map()
    assert [a.get_title(loc="left") for a in fig.axes] == ["by age", "by site", "by sex"]
    (site_legend,) = fig.legends
    assert {t.get_text() for t in site_legend.get_texts()} == {
        "site unknown (3)",
        "site 0 (14)",
        "site 1 (14)",
        "site 2 (14)",
        "site 3 (15)",
    }
    assert {t.get_text() for t in fig.axes[2].get_legend().get_texts()} == {"sex unknown (20)", "F (20)", "M (20)"}
    assert [a.get_xlabel() for a in fig.axes[0].child_axes] == ["age (years)"]


def test_of_many_sites_the_largest_eight_differ_in_colour_and_shape_and_the_rest_is_grey():
    rng = np.random.default_rng(0)
    sizes = [30, 29, 28, 27, 26, 25, 24, 23, 5, 4, 3]
    site = [f"site {i}" for i, n in enumerate(sizes) for _ in range(n)] + [""]
    fig = scatter_map(rng.normal(size=(len(site), 2)), np.zeros(len(site)), site, [""] * len(site))
    handles = fig.legends[0].legend_handles
    named = {t.get_text(): h for t, h in zip(fig.legends[0].get_texts(), handles, strict=True)}
    assert {f"site {i} ({n})" for i, n in enumerate(sizes[:8])} < set(named)
    assert {"3 other sites (12)", "site unknown (1)"} < set(named)
    assert len(named) == 10
    looks = [(h.get_color(), h.get_marker()) for t, h in named.items() if t.startswith("site ") and "unk" not in t]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 8
    grey = named["3 other sites (12)"].get_markerfacecolor()
    assert grey == "#b0b0b0"
    assert grey not in {colour for colour, _ in looks}


def test_long_names_that_begin_alike_are_told_apart_in_the_legend():
    names = [f"Universitaetsklinikum Hamburg-Eppendorf Scanner {i}" for i in range(3)]
    fig = scatter_map(np.zeros((3, 2)), np.zeros(3), names, [""] * 3)
    assert len({t.get_text() for t in fig.legends[0].get_texts()}) == 3
    assert labels(names, 20)[2] == "Unive…dorf Scanner 2"
    assert all(len(label) <= 20 for label in labels(names, 20))
    assert len(set(labels(names, 20))) == 3


def test_a_map_of_many_sites_and_many_scans_stays_small():
    fig = some_map(3000, 64)
    assert len(fig.legends[0].get_texts()) == 10
    assert len(figure_bytes(fig, "svg")) < 600_000


def test_points_without_place_and_unknown_labels_are_no_trouble():
    points = np.array([[np.nan, 1.0], [0.0, 1.0], [2.0, 1.0]])
    fig = scatter_map(points, np.full(3, np.nan), ["", "", ""], [None, float("nan"), "F"])
    assert len(figure_bytes(fig, "svg")) > 1000
    empty = scatter_map(np.zeros((0, 2)), np.zeros(0), [], [])
    assert len(figure_bytes(empty, "svg")) > 1000


def test_a_map_needs_a_label_for_every_point():
    with pytest.raises(UserError, match=r"points \(N, 2\)"):
        scatter_map(np.zeros((3, 2)), np.zeros(2), [""] * 3, [""] * 3)


def test_names_are_never_read_as_mathematics_or_hidden():
    names = [r"$\frac{", "$a$", "_hidden", "a\x00b\nc", "x" * 80, "\\alpha", "站点"]
    fig = scatter_map(np.random.default_rng(1).normal(size=(7, 2)), np.zeros(7), names, ["F"] * 7)
    ElementTree.fromstring(figure_bytes(fig, "svg"))
    assert len(fig.legends[0].get_texts()) == 7
    assert plain("_hidden") == " _hidden"
    assert plain("x" * 80) == "x" * 25 + "…"
    assert plain("") == "(none)"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_figure_is_saved_whole_and_always_with_the_same_bytes(kind: str, tmp_path: Path):
    first = save_figure(some_map(), tmp_path / "deep" / f"a.{kind}")
    second = save_figure(some_map(), tmp_path / f"b.{kind}")
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) > 2000
    assert [p.name for p in first.parent.iterdir()] == [f"a.{kind}"]


def test_an_unknown_ending_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"\.png, \.svg or \.pdf"):
        save_figure(some_map(), tmp_path / "a.jpeg")
    assert list(tmp_path.iterdir()) == []


def test_drawing_leaves_the_settings_of_the_caller_alone():
    before = dict(matplotlib.rcParams)
    figure_bytes(some_map(), "svg")
    assert dict(matplotlib.rcParams) == before


def test_the_report_needs_neither_torch_nor_pyplot():
    import subprocess

    code = "import sys, medssl.report.build; print(sorted({'torch', 'matplotlib.pyplot', 'yaml'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
