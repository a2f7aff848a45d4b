from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders import build_encoder
from medssl.errors import ManifestError, StaleError, UserError, VolumeError
from medssl.features import embed as module
from medssl.features.embed import embed_cohort
from medssl.features.table import FeatureTable
from medssl.types import Features

PREP = Preprocessing(spacing=(8.0, 8.0, 8.0), shape=(24, 24, 24))
PARENTS = {"encoder": "abc", "manifest": "def"}


class Counting(nn.Module):
    """An encoder that counts its calls and can stop or fail at one of them."""

    def __init__(self, stop_at: int | None = None, value: float = 1.0) -> None:
        super().__init__()
        self.calls, self.scans, self.stop_at, self.value = 0, 0, stop_at, value
        self.dim = 2

    def forward(self, x: Tensor) -> Features:
        assert not torch.is_grad_enabled()
        assert not self.training
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.scans += len(x)
        return Features(torch.stack([x.mean((1, 2, 3, 4)), x.std((1, 2, 3, 4))], 1) * self.value)


def run(cohort: Path, out: Path, encoder: nn.Module | None = None, **options: Any) -> FeatureTable:
    settings = {"provenance": PARENTS, "batch": 8, "progress": False, **options}
    return embed_cohort(encoder or Counting(), Cohort.read(cohort), PREP, out, **settings)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 16)


def test_every_row_of_the_manifest_is_embedded_in_its_order(cohort: Path, tmp_path: Path):
    table = run(cohort, tmp_path / "features.csv")
    people = Cohort.read(cohort)
    assert len(table) == len(people.table) == 40
    assert table.meta["participant_id"].tolist() == people.table["participant_id"].tolist()
    assert np.allclose(table.meta["age"], people.table["age"])
    assert table.meta["split"].tolist() == people.table["split"].tolist()
    for row in (0, 17, 39):
        volume = np.array(VolumeCache().load(people.images(row), PREP))
        assert table.values[row] == pytest.approx([volume.mean(), volume.std(ddof=1)], abs=1e-4)
    assert not list(tmp_path.glob(".*")), "no part is left behind"


def test_the_official_folds_of_a_manifest_travel_with_the_features(cohort: Path, tmp_path: Path):
    people = pd.read_csv(cohort, dtype=str)
    people["image"] = [str(cohort.parent / image) for image in people["image"]]
    people["fold0"] = ["train", "internal_test", "external_test", ""] * 10
    people["fold1"] = "train"
    people.to_csv(tmp_path / "manifest.csv", index=False)
    table = run(tmp_path / "manifest.csv", tmp_path / "features.csv")
    for read in (table, FeatureTable.read(tmp_path / "features.csv")):
        assert read.meta["fold0"].tolist() == people["fold0"].tolist()
        assert set(read.meta["fold1"]) == {"train"}
        assert "fold2" not in read.meta


def test_the_table_names_its_parents(cohort: Path, tmp_path: Path):
    run(cohort, tmp_path / "features.csv")
    record = json.loads((tmp_path / "features.csv.json").read_text())
    assert record["provenance"] == PARENTS
    assert record["rows"] == 40
    assert FeatureTable.read(tmp_path / "features.csv").provenance == PARENTS


def test_an_interrupted_embedding_continues_after_its_finished_parts(cohort: Path, tmp_path: Path):
    out = tmp_path / "features.csv"
    with pytest.raises(KeyboardInterrupt):
        run(cohort, out, Counting(stop_at=4))
    assert not out.exists()
    assert len(list(tmp_path.glob(".features.csv.parts/*.npz"))) == 2
    rest = Counting()
    table = run(cohort, out, rest)
    assert rest.scans == 8, "32 of 40 scans were there already"
    whole = run(cohort, tmp_path / "whole.csv")
    assert np.array_equal(table.values, whole.values)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("damage", ["changed byte", "cut", "swapped", "empty"])
def test_damaged_parts_of_an_interrupted_embedding_are_made_again(cohort: Path, tmp_path: Path, damage: str):
    out = tmp_path / "features.csv"
    with pytest.raises(KeyboardInterrupt):
        run(cohort, out, Counting(stop_at=4))
    first, second = sorted(tmp_path.glob(".features.csv.parts/*.npz"))
    content = bytearray(first.read_bytes())
    if damage == "changed byte":
        content[len(content) // 2] ^= 1
    kept = {"cut": content[:-20], "swapped": second.read_bytes(), "empty": b""}.get(damage, content)
    first.write_bytes(bytes(kept))
    rest = Counting()
    table = run(cohort, out, rest)
    assert rest.scans == 24, "the damaged part and the rest"
    assert np.array_equal(table.values, run(cohort, tmp_path / "whole.csv").values)


def test_parts_of_other_parents_are_thrown_away(cohort: Path, tmp_path: Path):
    out = tmp_path / "features.csv"
    with pytest.raises(KeyboardInterrupt):
        run(cohort, out, Counting(stop_at=4, value=-5.0))
    other = Counting()
    table = run(cohort, out, other, provenance={**PARENTS, "encoder": "other"})
    assert other.scans == 40
    assert np.array_equal(table.values, run(cohort, tmp_path / "whole.csv").values)


def test_a_finished_table_of_the_same_parents_is_returned_unread(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = run(cohort, tmp_path / "features.csv")

    def untouched(*arguments: Any, **options: Any) -> None:
        raise AssertionError("no volume is read a second time")

    monkeypatch.setattr(VolumeCache, "prepare", untouched)
    monkeypatch.setattr(VolumeCache, "load", untouched)
    again = run(cohort, tmp_path / "features.csv", Counting(stop_at=0))
    assert np.array_equal(again.values, first.values)
    with pytest.raises(AssertionError, match="no volume"):
        run(cohort, tmp_path / "features.csv", provenance={**PARENTS, "manifest": "new"})


def test_a_table_that_was_edited_is_refused_by_readers_and_made_again_by_embed(cohort: Path, tmp_path: Path):
    out = tmp_path / "features.csv"
    first = run(cohort, out)
    text = out.read_text().splitlines()
    out.write_text("\n".join([text[0], text[1].replace("F,", "M,", 1), *text[2:]]) + "\n")
    with pytest.raises(StaleError, match=r"features\.csv .*changed after it was written"):
        FeatureTable.read(out)
    assert np.array_equal(run(cohort, out).values, first.values)
    assert FeatureTable.read(out).provenance == PARENTS


def test_npz_and_tsv_hold_the_same_features(cohort: Path, tmp_path: Path):
    tables = [run(cohort, tmp_path / f"f.{kind}") for kind in ("csv", "tsv", "npz")]
    again = [FeatureTable.read(tmp_path / f"f.{kind}") for kind in ("csv", "tsv", "npz")]
    assert all(np.array_equal(tables[0].values, t.values) for t in (*tables, *again))


def test_a_head_maps_h_to_z_and_clean_prepares_every_volume(cohort: Path, tmp_path: Path):
    head = nn.Linear(2, 3)
    plain = run(cohort, tmp_path / "h.csv")
    z = run(cohort, tmp_path / "z.csv", head=head)
    with torch.no_grad():
        expected = head(torch.from_numpy(plain.values)).numpy()
    assert np.allclose(z.values, expected, atol=1e-5)
    shifted = run(cohort, tmp_path / "s.csv", clean=lambda x: x + 2)
    assert np.allclose(shifted.values[:, 0], plain.values[:, 0] + 2, atol=1e-5)


def test_batches_and_worker_processes_do_not_change_the_features(cohort: Path, tmp_path: Path):
    encoder = build_encoder("resnet18", width=4, depth=[1, 1], norm="group", stem="small")
    one = run(cohort, tmp_path / "a.csv", encoder, batch=40)
    two = run(cohort, tmp_path / "b.csv", encoder, batch=3, workers=2)
    assert np.allclose(one.values, two.values, atol=1e-5)


def test_features_that_are_no_numbers_name_the_scan(cohort: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"manifest\.csv row 2 \(sub-0001\): its features are not finite \(16 scans"):
        run(cohort, tmp_path / "features.csv", Counting(value=float("nan")))
    assert not (tmp_path / "features.csv").exists()


def test_a_name_that_cannot_be_written_is_refused_before_any_work(cohort: Path, tmp_path: Path):
    for name, words in (("features.xls", "must end in"), ("folder.csv", "is a folder")):
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=words):
            run(cohort, tmp_path / name, Counting(stop_at=0))


def test_scans_of_different_shapes_are_named_with_the_remedy(cohort: Path, tmp_path: Path):
    volumes = [np.random.default_rng(k).random((6 + k, 7, 8)).astype(np.float32) for k in range(2)]
    for k, volume in enumerate(volumes):
        np.save(tmp_path / f"{k}.npy", volume)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("participant_id,image\na,0.npy\nb,1.npy\n")
    with pytest.raises(VolumeError, match=r"different shapes after preprocessing.*set preprocessing\.shape"):
        embed_cohort(
            Counting(),
            Cohort.read(manifest),
            Preprocessing(),
            tmp_path / "f.csv",
            provenance={},
            progress=False,
        )


def test_an_image_column_that_the_manifest_lacks_is_named(cohort: Path, tmp_path: Path):
    with pytest.raises(ManifestError, match="no column 'image_t2'"):
        run(cohort, tmp_path / "f.csv", images=("image", "image_t2"))


@pytest.mark.oddity("column-named-like-a-feature")
@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("name", ["f0001", "f0003", "f7"])
def test_a_column_named_like_a_feature_is_refused_before_anything_is_done(
    cohort: Path, tmp_path: Path, on_error: str, name: str
):
    people = pd.read_csv(cohort, dtype=str)
    people["image"] = [str(cohort.parent / image) for image in people["image"]]
    people.loc[0, "image"] = "absent.nii.gz"
    people.assign(**{name: "1"}).to_csv(tmp_path / "manifest.csv", index=False)
    encoder = Counting()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=f"has a column {name}, which a table of features would take for a feature"):
        run(tmp_path / "manifest.csv", tmp_path / "out" / "features.csv", encoder, on_error=on_error)
    assert encoder.calls == 0
    assert list((tmp_path / "out").iterdir()) == []
