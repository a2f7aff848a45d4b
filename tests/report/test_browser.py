"""The page in a real browser: headless Chromium, where one is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import pandas as pd
import pytest

from medssl.report.build import build_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SITE = "Universitätsklinikum_Hamburg-Eppendorf_Institut_für_Radiologie, Magnetom Prisma 3T, 站点"
FRAME = '<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe>'
"""A window cannot be narrower than 500 pixels everywhere, but a frame can."""
MEASURE = """<script>addEventListener("load", () => {
  const widths = [...document.querySelectorAll("iframe")].map(frame => {
    frame.contentDocument.querySelectorAll("details").forEach(fold => { fold.open = true; });
    return frame.contentDocument.documentElement.scrollWidth;
  });
  document.body.dataset.widths = widths.join(" ");
});</script>"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """chromium(*options, page) runs the browser; skips where there is none."""
    given = os.environ.get("MEDSSL_CHROMIUM")
    binary = given or next((found for name in NAMES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser found ({', '.join(NAMES)}); set MEDSSL_CHROMIUM to one")
    profile = tmp_path_factory.mktemp("chromium")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}")
        quiet = ("--disable-background-networking", "--disable-component-update", "--no-first-run")
        return subprocess.run(
            [binary, *fixed, *quiet, *options], capture_output=True, text=True, timeout=120, check=True
        )

    return run


@pytest.fixture(scope="module")
def crowded(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with 60 sites of long names."""
    run = tmp_path_factory.mktemp("crowded") / "sixty-sites"
    shutil.copytree(whole_run, run)
    for path in (run / "features.csv", run / "predictions.csv", *(run / "logs").glob("map-*.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table["site"] = [f"{SITE} {int(who[-4:]) % 60}" for who in table["participant_id"]]
        table.to_csv(path, index=False)
    for part in ("views.npz", "logs/train.csv", "logs/probe.csv", "logs/map-epoch0005.csv"):
        (run / part).unlink()
    facts = json.loads((run / "run.json").read_text())
    for key in ("sites", "per_site"):
        del facts["training"][key]
    (run / "run.json").write_text(json.dumps(facts))
    return build_report(run)


def test_nothing_reaches_over_the_side_of_a_small_screen(
    crowded: Path, chromium: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
):
    html = crowded.read_text(encoding="utf-8")
    wide = html.replace("</main>", '<p style="width: 700px">wide</p></main>')
    frames = [FRAME.format(width=w, page=escape(page)) for page, w in ((html, 400), (html, 800), (wide, 400))]
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html>{''.join(frames)}{MEASURE}", encoding="utf-8")
    dom = chromium("--dump-dom", (tmp_path / "page.html").as_uri()).stdout
    found = re.search(r'data-widths="(\d+) (\d+) (\d+)"', dom)
    assert found is not None
    phone, tablet, broken = (int(width) for width in found.groups())
    assert (phone, tablet) == (400, 800)
    assert broken > 600, "a page that is too wide is found"


def test_the_browser_has_nothing_to_complain_of(
    crowded: Path, chromium: Callable[..., subprocess.CompletedProcess[str]]
):
    """A request to the network would break the policy of the page, which the browser reports on its console."""
    log = chromium("--enable-logging=stderr", "--dump-dom", crowded.as_uri()).stderr
    assert "CONSOLE" not in log


def test_every_printed_page_names_the_run_its_number_and_that_it_is_not_for_clinical_use(
    crowded: Path, chromium: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
):
    paper = tmp_path / "page.pdf"
    chromium("--no-pdf-header-footer", f"--print-to-pdf={paper}", crowded.as_uri())
    assert paper.read_bytes().startswith(b"%PDF")
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed, so the text of the PDF cannot be read")
    text = subprocess.run(["pdftotext", "-layout", paper, "-"], capture_output=True, text=True, check=True).stdout
    pages = text.split("\f")[:-1]
    assert len(pages) > 5
    for number, page in enumerate(pages, start=1):
        assert "Run sixty-sites" in page
        assert "Research software. Not for clinical use. Synthetic data." in page
        assert f"Page {number} of {len(pages)}" in page
    assert "Age errors per site, in years" in text, "what is folded on the screen is on paper"
    assert "temperature: 0.1" not in text, "the appendix is not"
