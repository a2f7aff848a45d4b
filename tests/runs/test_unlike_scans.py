"""A check with an encoder, and a single scan prepared for one."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import medssl
from medssl.data.checks.report import check
from medssl.data.manifest.cohort import Cohort
from medssl.errors import ScanWarning, UserError
from medssl.runs.network import load_network
from medssl.runs.unlike_scans import unlike_findings, with_encoder
from tests import strange


@pytest.fixture(scope="module")
def encoder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strange.encoder_on(cohort, tmp_path_factory.mktemp("compare") / "encoder.safetensors")


@pytest.mark.oddity("contrast-inverted")
def test_a_check_names_the_rows_by_kind(encoder: Path, cohort: Path, tmp_path: Path):
    scans = Cohort.read(strange.changed(cohort, tmp_path / "scans", strange.inverted, n=7))
    plain = check(scans, progress=False, workers=1)
    report = with_encoder(plain, scans, encoder, 500, progress=False)
    (found,) = [finding for finding in report.findings if finding.code.startswith("unlike")]
    assert (found.code, found.count) == ("unlike-contrast", 7)
    assert (found.level, found.row) == ("warning", found.row)
    assert "7 of 7 scans look unlike the" in found.text
    assert "contrast inverted" in found.text
    assert found.text.count("manifest.csv row ") == 6, "the worst one with its value, then the first five"
    assert found.text.endswith(" and 2 more")
    assert report.summary["counts"]["warning"] == plain.summary["counts"]["warning"] + 1
    assert report.ok == plain.ok
    few = with_encoder(plain, scans, encoder, 2, progress=False)
    assert any("2 of 2 scans look unlike" in finding.text for finding in few.findings)
    assert with_encoder(plain, scans, encoder, 0, progress=False).findings == plain.findings


def test_a_check_of_ordinary_scans_adds_nothing_and_leaves_unreadable_ones_to_others(
    encoder: Path, cohort: Path, tmp_path: Path
):
    manifest = strange.changed(cohort, tmp_path / "scans", strange.same, n=5)
    (manifest.parent / "2.nii.gz").write_bytes(b"nothing")
    network = load_network(encoder)
    assert unlike_findings(Cohort.read(manifest), network, encoder, 500, progress=False) == []
    for k in range(5):
        (manifest.parent / f"{k}.nii.gz").write_bytes(b"nothing")
    assert unlike_findings(Cohort.read(manifest), network, encoder, 500, progress=False) == []


@pytest.mark.oddity("encoder-without-likeness")
def test_a_check_with_an_older_encoder_says_that_it_cannot_compare(cohort: Path, tmp_path: Path):
    bare = strange.encoder_on(cohort, tmp_path / "bare.safetensors", likeness=None)
    (found,) = unlike_findings(Cohort.read(cohort), load_network(bare), bare, 500, progress=False)
    assert (found.level, found.code) == ("info", "unlike")
    assert "nothing can be said" in found.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(strange.unstripped, "not skull-stripped", marks=pytest.mark.oddity("not-skull-stripped")),
        pytest.param(strange.turned, "head turned", marks=pytest.mark.oddity("head-turned")),
    ],
)
def test_a_prepared_scan_is_compared(encoder: Path, cohort: Path, tmp_path: Path, change: strange.Change, words: str):
    image = strange.changed(cohort, tmp_path / "scans", change, n=1).parent / "0.nii.gz"
    network = load_network(encoder)
    with pytest.warns(ScanWarning, match=f"this scan looks unlike the .*{words}.*0.nii.gz"):
        x = network.prepare(image)
    assert x.shape == (1, 1, 24, 24, 24)
    with pytest.raises(UserError, match=f"this scan looks unlike the .*{words}"):
        network.prepare(image, strict=True)


@pytest.mark.oddity("encoder-without-likeness")
def test_an_ordinary_scan_is_prepared_silently_and_an_older_encoder_says_so(
    encoder: Path, cohort: Path, tmp_path: Path
):
    image = strange.changed(cohort, tmp_path / "scans", strange.same, n=1).parent / "0.nii.gz"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = medssl.load_network(encoder).prepare(image, strict=True)
    bare = medssl.load_network(strange.encoder_on(cohort, tmp_path / "bare.safetensors", likeness=None))
    with pytest.warns(ScanWarning, match="does not say what its training scans looked like"):
        assert (bare.prepare(image) == x).all()
    with pytest.raises(UserError, match="leave out --strict"):
        bare.prepare(image, strict=True)
