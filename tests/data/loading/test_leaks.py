"""One scan under two names: refused before a training where it stands on both sides, said where on one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.leaks import held_out_marks
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import Stamps
from medssl.errors import ManifestError, UserError
from medssl.recipe.build import assemble
from medssl.recipe.model import Recipe, load_recipe
from tests.conftest import tiny_recipe

PREP = Preprocessing(spacing=(8.0, 8.0, 8.0), shape=(24, 24, 24))


def turned(source: Path, path: Path) -> None:
    nib.save(nib.load(source).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]])), path)


NAMES: dict[str, tuple[str, Callable[[Path, Path], object], str]] = {
    "symbolic link": (".nii.gz", lambda source, path: path.symlink_to(source), "file"),
    "hard link": (".nii.gz", lambda source, path: os.link(source, path), "file"),
    "copy": (".nii.gz", lambda source, path: path.write_bytes(source.read_bytes()), "image"),
    "unpacked": (".nii", lambda source, path: nib.save(nib.load(source), path), "image"),
    "nrrd": (".nrrd", lambda source, path: sitk.WriteImage(sitk.ReadImage(str(source)), str(path)), "image"),
    "another orientation": (".nii.gz", turned, "image"),
}


def table_of(cohort: Path) -> pd.DataFrame:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    return table.assign(image=[str(cohort.parent / name) for name in table["image"]])


def recipe(manifest: Path) -> Recipe:
    return load_recipe("exponential", tiny_recipe(manifest, manifest.parent / "run"))


def with_row(table: pd.DataFrame, tmp_path: Path, split: str, image: Path, **cells: str) -> Path:
    """The manifest with one more person, who has this image."""
    like = table[table["split"] == split].iloc[0]
    row = like.to_dict() | {"participant_id": "sub-new", "split": split, "image": str(image), **cells}
    pd.concat([table, pd.DataFrame([row])]).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


@pytest.mark.oddity("one-scan-on-both-sides")
@pytest.mark.parametrize("name", NAMES)
def test_one_scan_under_two_names_on_both_sides_is_refused_before_the_training(cohort: Path, tmp_path: Path, name: str):
    suffix, write, what = NAMES[name]
    table = table_of(cohort)
    first = table[table["split"] == "train"].iloc[3]
    own = tmp_path / "own.nii.gz"  # a link changes the times of a file, and other tests compare those of the cohort
    own.write_bytes(Path(first["image"]).read_bytes())
    table.loc[first.name, "image"] = str(own)
    write(own, tmp_path / f"other{suffix}")
    manifest = with_row(table, tmp_path, "internal_test", tmp_path / f"other{suffix}")
    with pytest.raises(ManifestError) as told:
        assemble(recipe(manifest), progress=False)
    assert str(told.value) == (
        f"manifest.csv row {len(table) + 2} (sub-new): its scan is the same {what} as that of manifest.csv row "
        f"{int(first.name) + 2} ({first['participant_id']}), but one is in internal_test and the other in train (1 "
        "such test rows); drop one of the two, or put both into one split"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.oddity("one-scan-twice-in-training")
def test_one_scan_of_two_training_rows_is_said_with_ages_that_differ(cohort: Path, tmp_path: Path, capsys):
    table = table_of(cohort)
    first = table[table["split"] == "train"].iloc[3]
    (tmp_path / "other.nii.gz").write_bytes(Path(first["image"]).read_bytes())
    manifest = with_row(table, tmp_path, "train", tmp_path / "other.nii.gz", age="77.7")
    parts = assemble(recipe(manifest))
    (note,) = (line for line in capsys.readouterr().err.splitlines() if "of an earlier one" in line)
    assert note == (
        f"note: 1 of {len(parts.train_rows)} training scans is the image of an earlier one, 1 of another person, 1 "
        f"with another age (such as manifest.csv row {int(first.name) + 2} ({first['participant_id']}) and "
        f"manifest.csv row {len(table) + 2} (sub-new)); keep one of them"
    )
    assert len(parts.marks) == len(set(parts.marks)) + 1


def _unsplit(lines: list[str]) -> list[str]:
    return [*lines[:-1], lines[-1].replace("internal_test", "")]


def test_scans_of_no_split_are_compared_with_nothing(cohort: Path, tmp_path: Path):
    table = table_of(cohort)
    first = table[table["split"] == "train"].iloc[3]
    (tmp_path / "other.nii.gz").write_bytes(Path(first["image"]).read_bytes())
    manifest = with_row(table, tmp_path, "internal_test", tmp_path / "other.nii.gz")
    with pytest.raises(ManifestError, match="same image"):  # while it is in a test split
        assemble(recipe(manifest), progress=False)
    manifest.write_text("".join(f"{line}\n" for line in _unsplit(manifest.read_text().splitlines())))
    parts = assemble(recipe(manifest), progress=False)
    assert parts.train_rows.tolist() == np.flatnonzero(table["split"] == "train").tolist()
    assert len(set(parts.marks)) == len(parts.train_rows)


def test_test_scans_that_cannot_be_read_are_left_to_the_score(cohort: Path, tmp_path: Path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    manifest = with_row(table_of(cohort), tmp_path, "internal_test", tmp_path / "broken.nii.gz")
    parts = assemble(recipe(manifest), progress=False)
    assert all(parts.marks)
    with pytest.raises(UserError, match=r"broken\.nii\.gz"):
        stages.score(stages.pretrain(parts.recipe, page=False, progress=False), resamples=0, progress=False)


def test_more_test_scans_than_training_scans_are_compared_where_they_are_in_the_cache(cohort: Path, tmp_path: Path):
    read, cache = Cohort.read(cohort), VolumeCache(tmp_path / "cache")
    test = np.flatnonzero(read.table["split"] != "train")
    cache.build(read.files(test[:2]), PREP, workers=1, progress=False)
    rows, marks, notes = held_out_marks(read, ("image",), cache, PREP, len(test) - 3, False, Stamps())
    assert rows.tolist() == test[:2].tolist()
    assert all(marks)
    assert notes == [
        f"{len(test) - 2} of {len(test)} test scans are not in the cache yet and were not searched for copies of "
        f"training scans, since that is done for {len(test) - 3} at most; `medssl score` prepares and compares them"
    ]
    rows, marks, notes = held_out_marks(read, ("image",), cache, PREP, len(test), False, Stamps())
    assert (rows.tolist(), notes) == (test.tolist(), [])


def test_rows_of_a_table_with_the_same_features_on_both_sides_are_refused(tmp_path: Path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(2.5, 0.2, (30, 20)).round(3), columns=[f"r{k}_thickness" for k in range(20)])
    table = table.assign(
        participant_id=[f"p{k}" for k in range(30)],
        age=rng.uniform(20, 80, 30).round(1),
        split=["train"] * 24 + ["internal_test"] * 6,
        site=[f"s{k % 3}" for k in range(30)],
    )
    changes = ["data.columns=['*_thickness']", "trainer.accelerator=cpu", "data.batch_size=8"]
    changes += [f"data.manifest={tmp_path / 't.csv'}", f"output={tmp_path / 'run'}"]
    table.to_csv(tmp_path / "t.csv", index=False)
    assert len(assemble(load_recipe("exponential_roi", changes), progress=False).marks) == 24
    table.iloc[27, :20] = table.iloc[5, :20]
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(
        ManifestError, match=r"t.csv row 29 \(p27\): its features are the same as those of t.csv row 7 "
    ):
        assemble(load_recipe("exponential_roi", changes), progress=False)
