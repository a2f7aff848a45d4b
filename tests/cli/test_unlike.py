"""What the commands say of scans that look unlike the training scans, and of those that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import strange
from tests.cli.conftest import Told, one_sentence


@pytest.fixture(scope="module")
def encoder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strange.encoder_on(cohort, tmp_path_factory.mktemp("said") / "encoder.safetensors")


@pytest.mark.oddity("contrast-inverted")
def test_embed_says_it_and_strict_refuses_in_one_sentence(
    encoder: Path, cohort: Path, tmp_path: Path, medssl: Callable[..., Told]
):
    manifest = strange.changed(cohort, tmp_path / "scans", strange.inverted)
    command = ("embed", encoder, manifest, "-o", tmp_path / "f.csv", "--quiet")
    said = one_sentence(medssl(*command, "--strict"))
    assert "4 of 4 scans look unlike" in said
    assert said.endswith("leave out --strict (strict)")
    assert not (tmp_path / "f.csv").exists()
    for _ in range(2):  # made, and found there
        status, out, err = medssl(*command)
        assert (status, out) == (0, f"4 scans x 8 features -> {tmp_path / 'f.csv'}\n")
        assert err.startswith("note: 4 of 4 scans look unlike the ")
        assert len(err.splitlines()) == 1


@pytest.mark.oddity("some-scans-unreadable")
def test_skipped_scans_are_counted_and_the_status_is_0(
    encoder: Path, cohort: Path, tmp_path: Path, medssl: Callable[..., Told]
):
    manifest = strange.changed(cohort, tmp_path / "scans", strange.same)
    (manifest.parent / "2.nii.gz").write_bytes(b"nothing")
    command = ("embed", encoder, manifest, "-o", tmp_path / "f.csv", "--quiet")
    assert "1 of 4 scans cannot be used" in one_sentence(medssl(*command))
    status, out, err = medssl(*command, "--on-error", "skip")
    assert (status, out) == (0, f"3 scans x 8 features -> {tmp_path / 'f.csv'}\n")
    assert err == f"note: 1 scan could not be read and is not in the table; see {tmp_path / 'f.csv.failures.csv'}\n"
    assert "on_error is 'skp'" in one_sentence(medssl(*command, "--on-error", "skp"))


@pytest.mark.oddity("head-turned")
def test_a_check_with_an_encoder_lists_them(encoder: Path, cohort: Path, tmp_path: Path, medssl: Callable[..., Told]):
    manifest = strange.changed(cohort, tmp_path / "scans", strange.turned)
    command = ("cohort", "check", manifest, "--encoder", encoder, "--json", tmp_path / "check.json", "--quiet")
    _, out, _ = medssl(*command)
    (line,) = [line for line in out.splitlines() if "unlike-turned" in line]
    assert line.split()[:3] == ["warning", "unlike-turned", "4"], "as many as its sentence counts"
    assert "4 of 4 scans look unlike" in line
    found = [f for f in json.loads((tmp_path / "check.json").read_text())["findings"] if f["code"].startswith("unlike")]
    assert ["head turned" in finding["text"] for finding in found] == [True]
    assert "no such file" in one_sentence(medssl(*command[:3], "--encoder", tmp_path / "nothing.safetensors"))
