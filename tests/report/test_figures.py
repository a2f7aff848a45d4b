from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from medssl.errors import UserError
from medssl.report.figures import figure_bytes, plain, save_figure, scatter_map


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
        "site unknown",
        "site 0",
        "site 1",
        "site 2",
        "site 3",
    }
    assert {t.get_text() for t in fig.axes[2].get_legend().get_texts()} == {"sex unknown", "F", "M"}
    assert [a.get_xlabel() for a in fig.axes[0].child_axes] == ["age (years)"]


def test_a_map_of_many_sites_and_many_scans_stays_small():
    fig = some_map(3000, 64)
    assert len(fig.legends[0].get_texts()) == 35
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
