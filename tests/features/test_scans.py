"""Scans that cannot be read: stop, or embed the others and list these."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import ScanWarning, UserError, VolumeError
from medssl.features.scans import failures_path, read_scans, rows_with_images
from medssl.features.table import FeatureTable
from tests import strange


@pytest.fixture(scope="module")
def encoder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strange.encoder_on(cohort, tmp_path_factory.mktemp("skip") / "encoder.safetensors")


@pytest.fixture
def broken(cohort: Path, tmp_path: Path) -> Path:
    """Six scans, of which the second is damaged, the fourth absent and the fifth empty."""
    manifest = strange.changed(cohort, tmp_path / "scans", strange.same, split="train", n=6)
    (manifest.parent / "1.nii.gz").write_bytes(b"nothing")
    (manifest.parent / "3.nii.gz").unlink()
    (manifest.parent / "4.nii.gz").write_bytes(b"")
    return manifest


def embedded(encoder: Path, manifest: Path, out: Path, **options: object) -> tuple[FeatureTable, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = stages.embed(encoder, manifest, out, progress=False, **options)
    return table, [str(w.message) for w in caught if issubclass(w.category, ScanWarning)]


@pytest.mark.oddity("some-scans-unreadable")
def test_what_can_be_read_is_embedded_and_the_rest_is_listed(encoder: Path, broken: Path, tmp_path: Path):
    out = tmp_path / "out" / "f.csv"
    with pytest.raises(UserError, match="3 of 6 scans cannot be used"):
        embedded(encoder, broken, out)
    assert not out.parent.exists()
    table, said = embedded(encoder, broken, out, on_error="skip")
    people = pd.read_csv(broken, dtype=str)["participant_id"]
    assert table.meta["participant_id"].tolist() == people[[0, 2, 5]].tolist()
    assert said[0] == f"3 scans could not be read and are not in the table; see {failures_path(out)}"
    lost = pd.read_csv(failures_path(out), dtype=str, keep_default_na=False)
    assert lost.columns.tolist() == ["participant_id", "session", "image", "reason"]
    assert lost["participant_id"].tolist() == people[[1, 3, 4]].tolist()
    for reason, words in zip(lost["reason"], ("1.nii.gz", "3.nii.gz", "4.nii.gz"), strict=True):
        assert words in reason
    assert table.provenance["skipped"] == 3
    assert FeatureTable.read(out).provenance["skipped"] == 3
    assert [p.name for p in sorted(out.parent.iterdir())] == ["f.csv", "f.csv.failures.csv", "f.csv.json"]


@pytest.mark.oddity("some-scans-unreadable")
def test_a_table_with_gaps_is_never_taken_for_a_whole_one(
    encoder: Path, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out" / "f.csv"
    first, _ = embedded(encoder, broken, out, on_error="skip")
    with pytest.raises(UserError, match="3 of 6 scans cannot be used"):
        embedded(encoder, broken, out)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureTable, "write", None)
        again, said = embedded(encoder, broken, out, on_error="skip")
    assert np.array_equal(again.values, first.values)
    assert said[0].startswith("3 scans could not be read")
    folder = broken.parent
    for k in (1, 3):
        (folder / f"{k}.nii.gz").write_bytes((folder / "0.nii.gz").read_bytes())
    table, said = embedded(encoder, broken, out, on_error="skip")
    assert len(table) == 5
    assert said[0].startswith("1 scan could not be read and is not in the table")
    (folder / "4.nii.gz").write_bytes((folder / "0.nii.gz").read_bytes())
    table, said = embedded(encoder, broken, out, on_error="skip")
    assert len(table) == 6
    assert said == []
    assert "skipped" not in table.provenance
    assert not failures_path(out).exists()
    failures_path(out).write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(FeatureTable, "write", None)
        assert len(embedded(encoder, broken, out)[0]) == 6, "the same table serves those who stop"
    assert not failures_path(out).exists()


@pytest.mark.oddity("no-scan-readable")
def test_nothing_readable_is_an_error_in_either_way(encoder: Path, broken: Path, tmp_path: Path):
    table = pd.read_csv(broken, dtype=str, keep_default_na=False)
    table.iloc[[1, 3]].to_csv(broken, index=False)
    for way in ("stop", "skip"):
        with pytest.raises(UserError, match="2 of 2 scans cannot be used"):
            embedded(encoder, broken, tmp_path / "out" / "f.csv", on_error=way)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="on_error is 'skp', but it must be 'stop' or 'skip'; did you mean 'skip'"):
        embedded(encoder, broken, tmp_path / "out" / "f.csv", on_error="skp")


@pytest.mark.oddity("some-scans-unreadable")
def test_a_row_without_its_second_image_is_left_out(cohort: Path, tmp_path: Path):
    manifest = strange.changed(cohort, tmp_path / "scans", strange.same, n=3)
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    table.assign(image_flair=["0.nii.gz", "", "2.nii.gz"]).to_csv(manifest, index=False)
    rows, failed = rows_with_images(Cohort.read(manifest), ("image", "image_flair"))
    assert rows.tolist() == [0, 2]
    assert list(failed) == [1]
    assert failed[1].endswith('"image_flair" names no file')
    arguments = Cohort.read(manifest), ("image", "image_flair"), VolumeCache(tmp_path / "cache"), strange.PREP
    dataset, failed = read_scans(*arguments, None, False, skip=True)
    assert (len(dataset), list(failed)) == (2, [1])
    with pytest.raises(UserError, match="image_flair"):
        read_scans(*arguments, None, False, skip=False)


@pytest.mark.oddity("some-scans-unreadable")
def test_a_scan_of_another_shape_is_left_out_where_the_recipe_keeps_shapes(cohort: Path, tmp_path: Path):
    def shorter(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x[1:], affine

    odd = strange.changed(cohort, tmp_path / "odd", shorter, n=1)
    files = [*Cohort.read(odd).files([0]), *Cohort.read(cohort).files([0, 1])]
    failed: dict[int, str] = {}
    made = VolumeCache(tmp_path / "cache").prepare(files, Preprocessing(), progress=False, failed=failed)
    assert list(failed) == [0]
    assert "most scans have 1 x " in failed[0]
    assert len(made.keys) == 2
    with pytest.raises(VolumeError, match="different shapes"):
        VolumeCache(tmp_path / "cache").prepare(files, Preprocessing(), progress=False)


def test_a_table_with_gaps_is_scored_beside_its_references(cohort: Path, tmp_path: Path):
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table["image"] = [str(cohort.parent / name) for name in table["image"]]
    table.loc[table.index[table["split"] == "train"][0], "image"] = str(tmp_path / "gone.nii.gz")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    encoder = strange.encoder_on(
        cohort, tmp_path / "encoder.safetensors", recipe={"data": {"manifest": str(tmp_path / "manifest.csv")}}
    )
    made, _ = embedded(encoder, tmp_path / "manifest.csv", tmp_path / "f.csv", on_error="skip")
    assert len(made) == 39
    scores = stages.score(tmp_path / "f.csv", resamples=0, progress=False)
    assert "missing" not in scores.references["ridge_voxels"]
    assert any("1 scan could not be read" in note for note in scores.notes)
