from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.synthetic.anatomy import Head, draw_person, grow
from medssl.data.synthetic.cohort import grid_for, synthesize
from medssl.data.synthetic.design import age_quantile, design
from medssl.data.synthetic.scanner import draw_site, draw_visit
from medssl.data.synthetic.template import load_template
from medssl.errors import UserError

ARGUMENTS = {"subjects": 8, "sites": 4, "seed": 5, "progress": False}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("synth") / "cohort", **ARGUMENTS, workers=1).parent


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def head_of(age: float, sex: str = "F", seed: int = 1) -> Head:
    person = draw_person(np.random.default_rng(seed), age, sex)
    grid = grid_for(4.0)
    return grow(person, load_template(grid.fine_mm), grid.fine_axes(), np.zeros(3), np.zeros(3))


def eta_squared(plan: pd.DataFrame) -> float:
    centred = plan["age"] - plan["age"].mean()
    between = plan.groupby("site")["age"].transform("mean") - plan["age"].mean()
    return float((between**2).sum() / (centred**2).sum())


# --- files ---


def test_same_seed_gives_the_same_bytes_for_any_number_of_workers(cohort: Path, tmp_path: Path) -> None:
    again = synthesize(tmp_path / "again", **ARGUMENTS, workers=3).parent
    first, second = files_of(cohort), files_of(again)
    assert len(first) == 8 + 4
    assert first == second


def test_another_seed_gives_other_people(cohort: Path, tmp_path: Path) -> None:
    other = synthesize(tmp_path / "other", subjects=2, sites=2, seed=6, progress=False).parent
    mine, theirs = pd.read_csv(cohort / "truth.csv"), pd.read_csv(other / "truth.csv")
    assert not set(mine["brain_age_offset"]) & set(theirs["brain_age_offset"])
    image = "images/sub-0001_T1w.nii.gz"
    assert (cohort / image).read_bytes() != (other / image).read_bytes()


def test_the_manifest_is_read_as_a_cohort(cohort: Path) -> None:
    read = Cohort.read(cohort / "manifest.csv", require=("age", "site", "sex"))
    assert len(read.table) == 8
    assert read.has_split
    assert set(read.table["dataset"]) == {"synthetic"}
    assert read.table["age"].between(6, 90).all()
    assert all(Path(image).is_file() for image in read.table["image"])
    assert read.levels("site") == [f"site-{i:02d}" for i in range(1, 5)]


def test_scans_are_compact_positive_brains_on_one_grid(cohort: Path) -> None:
    for path in sorted((cohort / "images").iterdir()):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        assert image.shape == (40, 48, 40)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(image.header.get_zooms(), 4.0)
        assert data.dtype == np.int16
        assert data.min() == 0
        assert 900 < (data > 0).sum() * 0.064 < 2000  # ml
        border = np.concatenate([data[[0, -1]].ravel(), data[:, [0, -1]].ravel()])
        assert (border == 0).all()


def test_truth_and_sites_match_the_manifest(cohort: Path) -> None:
    manifest, truth = pd.read_csv(cohort / "manifest.csv"), pd.read_csv(cohort / "truth.csv")
    sites = pd.read_csv(cohort / "sites.csv").set_index("name")
    shared = ["participant_id", "age", "sex", "site", "split"]
    pd.testing.assert_frame_equal(manifest[shared], truth[shared])
    np.testing.assert_allclose(truth["effective_age"], truth["age"] + truth["brain_age_offset"], atol=1e-3)
    assert truth.notna().all().all()
    external = manifest["split"] == "external_test"
    assert (sites.loc[manifest["site"], "external"].to_numpy() == external.to_numpy()).all()
    for column in ("ventricle_ml", "grey_loss_frontal", "deformation_mm", "gain", "gamma", "bias_amplitude"):
        assert truth[column].nunique() == len(truth), column
    np.testing.assert_allclose(np.log(truth["gain"] / sites.loc[truth["site"], "gain"].to_numpy()), 0, atol=0.4)
    assert truth[[f"shift_mm_{axis}" for axis in "xyz"]].abs().to_numpy().max() <= 2.0


def test_the_same_cohort_is_used_again_and_another_is_not_overwritten(cohort: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in cohort.rglob("*")}
    assert synthesize(cohort, **ARGUMENTS) == cohort / "manifest.csv"
    assert {p: p.stat().st_mtime_ns for p in cohort.rglob("*")} == before
    with pytest.raises(UserError, match="other arguments; choose another folder"):
        synthesize(cohort, **{**ARGUMENTS, "seed": 7})


def test_overwrite_replaces_a_synthetic_cohort_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    synthesize(out, subjects=1, sites=1, seed=0, spacing=8.0, progress=False)
    synthesize(out, subjects=1, sites=1, seed=1, spacing=8.0, progress=False, overwrite=True)
    assert json.loads((out / "dataset_description.json").read_text())["Arguments"]["seed"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (out / "my_notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"my_notes\.txt"):
        synthesize(out, subjects=1, sites=1, seed=2, spacing=8.0, progress=False, overwrite=True)
    assert (out / "my_notes.txt").read_text() == "precious"


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medssl.data.synthetic.cohort.write_volume", full)
    with pytest.raises(UserError, match="No space left"):
        synthesize(tmp_path / "out", subjects=2, sites=1, progress=False)
    assert list(tmp_path.iterdir()) == []


# --- design ---


def test_external_sites_are_unseen_in_training() -> None:
    plan, sites = design(300, 10, 0, 0.0, 0.2, 0.2)
    assert plan["participant_id"].is_unique
    assert plan["image"].is_unique
    external = {site.name for site in sites if site.external}
    assert len(external) == 2
    assert set(plan.loc[plan["split"] == "external_test", "site"]) == external
    assert not external & set(plan.loc[plan["split"] != "external_test", "site"])
    known = plan[~plan["site"].isin(external)]
    assert (known["split"] == "internal_test").mean() == pytest.approx(0.2, abs=0.01)
    sizes = plan["site"].value_counts()
    assert 1.05 < sizes.max() / sizes.min() < 1.6


def test_three_sites_always_keep_one_external() -> None:
    for sites, fraction, expected in ((3, 0.1, 1), (2, 0.2, 0), (4, 1.0, 3), (5, 0.0, 0), (12, 0.5, 6)):
        assert sum(site.external for site in design(24, sites, 1, 0.0, fraction, 0.2)[1]) == expected


@pytest.mark.parametrize("seed", range(5))
def test_the_confounding_dial_goes_from_none_to_strong(seed: int) -> None:
    plans = [design(300, 10, seed, dial, 0.2, 0.2)[0] for dial in (0.0, 0.5, 1.0)]
    none, middle, strong = (eta_squared(plan) for plan in plans)
    assert none < 0.01
    assert 0.1 < middle < strong
    assert strong > 0.7
    assert all(19 < plan["age"].std() < 24 for plan in plans)


def test_ids_and_row_order_tell_nothing() -> None:
    plan, _ = design(600, 10, 3, 1.0, 0.2, 0.2)
    order = np.arange(600)
    assert abs(np.corrcoef(order, plan["age"])[0, 1]) < 0.12
    by_site = plan.assign(order=order).groupby("site")["order"].mean()
    assert (abs(by_site - 299.5) < 110).all()
    assert (plan["participant_id"] == [f"sub-{i:04d}" for i in range(1, 601)]).all()


def test_ages_span_the_range() -> None:
    ages = age_quantile(np.linspace(0, 1, 1001))
    assert ages[0] == 6
    assert ages[-1] == 90
    assert (np.diff(ages) > 0).all()


# --- anatomy and scanner ---


def test_brains_shrink_and_ventricles_widen_with_age() -> None:
    child, young, middle, old = (head_of(age).volumes_ml for age in (8, 20, 50, 80))
    assert 1.8 < old["ventricle"] / young["ventricle"] < 3.6
    assert 0.18 < 1 - old["grey"] / young["grey"] < 0.32
    fluid = [v["csf"] / v["brain"] for v in (child, young, middle, old)]
    assert fluid == sorted(fluid)
    assert old["ventricle"] - middle["ventricle"] > 1.5 * (middle["ventricle"] - young["ventricle"])


def test_an_old_brain_has_more_dark_voxels_inside() -> None:
    shares = [(h.signal[h.mask > 0.9] < 0.45).mean() for h in (head_of(20), head_of(80))]
    assert shares[1] > 1.5 * shares[0]


def test_males_are_larger_and_otherwise_alike() -> None:
    rng_seed = range(40)
    volumes = {
        sex: np.mean([np.prod(draw_person(np.random.default_rng(s), 40, sex).scale_xyz) for s in rng_seed])
        for sex in "FM"
    }
    assert 1.07 < volumes["M"] / volumes["F"] < 1.11
    male, female = (draw_person(np.random.default_rng(3), 40, sex) for sex in "MF")
    assert dataclasses.replace(male, sex="F", scale_xyz=female.scale_xyz) == female


def test_anatomy_follows_age_plus_offset() -> None:
    people = [draw_person(np.random.default_rng(s), 50, "F") for s in range(400)]
    offset = np.array([p.brain_age_offset for p in people])
    assert 3.3 < offset.std() < 4.3
    assert abs(offset.mean()) < 0.6
    loss = np.array([np.mean(p.grey_loss) for p in people])
    assert np.corrcoef(offset, loss)[0, 1] > 0.3


def test_scans_of_a_site_vary_less_than_sites() -> None:
    sites = [draw_site(np.random.default_rng(s), f"s{s}", False) for s in range(30)]
    visits = [[draw_visit(np.random.default_rng([s, v]), site) for v in range(6)] for s, site in enumerate(sites)]
    for name in ("gain", "gamma", "noise_sd", "bias_amplitude", "mask_threshold"):
        values = np.log([[getattr(visit, name) for visit in of_site] for of_site in visits])
        assert values.mean(axis=1).std() > 1.3 * values.std(axis=1).mean(), name


# --- bad arguments ---


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"subjects": 3, "sites": 4}, "sites=4 is more than subjects=3"),
        ({"subjects": 0}, "subjects is 0"),
        ({"sites": 2.5}, "sites is 2.5"),
        ({"seed": -1}, "seed is -1"),
        ({"spacing": 0.0}, "spacing is 0.0"),
        ({"spacing": float("nan")}, "spacing is nan"),
        ({"confounding": 1.5}, "confounding is 1.5"),
        ({"external_fraction": -0.1}, "external_fraction is -0.1"),
        ({"internal_fraction": 2}, "internal_fraction is 2"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_an_impossible_argument_is_named(wrong: dict[str, float], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        synthesize(tmp_path / "out", progress=False, **wrong)
    assert not (tmp_path / "out").exists()


def test_a_folder_or_file_of_the_user_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        synthesize(tmp_path, subjects=1, sites=1, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        synthesize(tmp_path / "thesis.txt", subjects=1, sites=1)
