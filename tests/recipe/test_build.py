from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders import build_encoder
from medssl.encoders.file import save_encoder, weights_digest
from medssl.errors import ManifestError, RecipeError, UserError, VolumeError
from medssl.methods.contrastive.two_view import TwoView
from medssl.recipe.build import assemble, views_are_late
from medssl.recipe.model import Recipe, load_recipe
from medssl.runs.network import network_of
from medssl.runs.references import untrained_encoder, voxel_matrix
from medssl.runs.sample_views import write_sample_views
from medssl.types import Shown
from tests.conftest import tiny_recipe


@pytest.fixture
def rewritten(cohort: Path, tmp_path: Path) -> Callable[[Callable[[pd.DataFrame], pd.DataFrame]], Path]:
    """The cohort's manifest with changed rows, in another folder."""

    def write(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
        table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
        table["image"] = [str(cohort.parent / name) for name in table["image"]]
        change(table).to_csv(tmp_path / "manifest.csv", index=False)
        return tmp_path / "manifest.csv"

    return write


def recipe(manifest: Path, method: str = "exponential", *more: str) -> Recipe:
    return load_recipe(method, [*tiny_recipe(manifest, manifest.parent / "run", method), *more])


def test_tensorboard_that_is_not_installed_is_said_before_anything_is_read(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    changes = tiny_recipe(cohort, tmp_path / "run", "simclr")
    with pytest.raises(UserError, match=r"medssl\[tracking\]"):
        stages.pretrain("simclr", *changes, "trainer.tensorboard=true", f"data.cache={tmp_path / 'cache'}")
    assert not list(tmp_path.iterdir())


def test_without_a_manifest_the_way_to_one_is_named(cohort: Path):
    with pytest.raises(UserError, match=r"set data\.manifest=PATH"):
        assemble(recipe(cohort, "exponential", "data.manifest=null"), progress=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ("participant_id,image\n", "has a header but no rows"),
        ("participant,image\na,b.nii\n", 'no column "participant_id"'),
        ("participant_id,image,split\na,b.nii,external\n", "no row has split 'train'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, words: str):
    path = tmp_path / "people.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ManifestError, match=words) as caught:
        assemble(recipe(path), progress=False)
    assert "people.csv" in str(caught.value)


@pytest.mark.parametrize("method", ["exponential", "y_aware", "threshold", "l1_age"])
def test_a_method_that_reads_age_refuses_a_cohort_without_ages(method: str, rewritten):
    manifest = rewritten(lambda table: table.drop(columns="age"))
    with pytest.raises(ManifestError, match=rf"column 'age', but {method} reads it; .*such as simclr"):
        assemble(recipe(manifest, method), progress=False)
    only_tests = rewritten(lambda t: t.assign(age=t["age"].where(t["split"] != "train", "n/a")))
    with pytest.raises(ManifestError, match="no training row has a value in column 'age'"):
        assemble(recipe(only_tests, method), progress=False)


def test_a_method_that_reads_no_label_needs_none(rewritten):
    manifest = rewritten(lambda table: table[["participant_id", "image", "split"]])
    parts = assemble(recipe(manifest, "simclr"), progress=False)
    assert parts.method.reads == ()
    assert parts.info["training"]["age"] is None
    assert parts.info["training"]["sites"] == []


def test_a_site_without_ages_leaves_a_card_that_json_can_hold(rewritten):
    manifest = rewritten(lambda t: t.assign(age=t["age"].where(t["site"] != "site-01", "n/a")))
    training = assemble(recipe(manifest), progress=False).info["training"]
    ages = {s["site"]: s["age"] for s in training["per_site"]}
    assert ages["site-01"] is None
    assert all(len(span) == 3 for site, span in ages.items() if site != "site-01")
    assert json.dumps(training, allow_nan=False)


def test_a_batch_larger_than_the_cohort_is_refused_before_a_scan_is_read(cohort: Path, monkeypatch: pytest.MonkeyPatch):
    def untouched(*arguments: object, **options: object) -> None:
        raise AssertionError("nothing is read")

    monkeypatch.setattr(VolumeCache, "build", untouched)
    with pytest.raises(UserError, match=r"a batch of 39 scans .*set data\.batch_size="):
        assemble(recipe(cohort, "exponential", "data.batch_size=39"), progress=False)
    with pytest.raises(UserError, match=r"trainer\.accumulate"):
        assemble(recipe(cohort, "exponential", "trainer.accumulate=9"), progress=False)


def test_scans_of_different_shapes_need_a_common_one(tmp_path: Path):
    for k in range(8):
        np.save(tmp_path / f"{k}.npy", np.random.default_rng(k).random((10 + k // 4, 12, 12)).astype(np.float32))
    lines = [f"{k},{k}.npy,{20 + k}" for k in range(8)]
    (tmp_path / "manifest.csv").write_text("participant_id,image,age\n" + "\n".join(lines) + "\n")
    plain = ["data.preprocessing={}", "data.batch_size=4"]
    with pytest.raises(VolumeError, match=r"row 2 \(0\) is 10 x 12 x 12, .*row 6 \(4\) is 11 x 12 x 12 .*shape"):
        assemble(recipe(tmp_path / "manifest.csv", "exponential", *plain), progress=False)
    one = assemble(
        recipe(tmp_path / "manifest.csv", "exponential", *plain, "data.preprocessing={shape: [12, 12, 12]}"),
        progress=False,
    )
    assert one.dataset.volume(0).shape == (1, 12, 12, 12)


def test_rows_outside_the_training_split_need_no_file_at_all(rewritten, cohort: Path):
    people = Cohort.read(cohort)

    def away(table: pd.DataFrame) -> pd.DataFrame:
        inside = table["split"] == "train"
        return table.assign(image=table["image"].where(inside, "/nowhere/" + table["participant_id"]))

    parts = assemble(recipe(rewritten(away)), progress=False)
    assert parts.train_rows.tolist() == people.rows("train").tolist()
    assert all(parts.dataset.images[r] for r in parts.train_rows)
    others = sorted(set(range(40)) - set(parts.train_rows))
    assert all(parts.dataset.images[r] == () for r in others)


def test_an_unreadable_training_scan_is_named_with_its_row(rewritten, tmp_path: Path):
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")

    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        row = table.index[table["split"] == "train"][0]
        table.loc[row, "image"] = str(tmp_path / "broken.nii.gz")
        return table

    with pytest.raises(VolumeError, match=r"1 of \d+ scans cannot be used: manifest\.csv row \d+ .*broken\.nii\.gz"):
        assemble(recipe(rewritten(spoil)), progress=False)


def test_labels_of_other_rows_do_not_reach_the_method(rewritten, cohort: Path):
    ages = Cohort.read(cohort)
    manifest = rewritten(lambda t: t.assign(age=t["age"].where(t["split"] == "train", "99")))
    parts = assemble(recipe(manifest, "l1_age"), progress=False)
    known = ages.labels("age")[ages.rows("train")]
    assert float(parts.method.middle) == pytest.approx(float(np.median(known)), rel=1e-6)
    assert float(parts.method.spread) == pytest.approx(float(known.std()), rel=1e-6)


def test_batches_carry_codes_for_text_and_numbers_for_numbers(rewritten):
    def extend(table: pd.DataFrame) -> pd.DataFrame:
        table["iq"] = [str(90 + k) if k % 3 else "n/a" for k in range(len(table))]
        table["field"] = ["3T" if k % 2 else "" for k in range(len(table))]
        return table

    meta = assemble(recipe(rewritten(extend), "simclr"), progress=False).dataset.meta
    assert meta["age"].dtype == meta["iq"].dtype == torch.float32
    assert meta["iq"][0].isnan()
    assert float(meta["iq"][1]) == 91.0
    assert meta["site"].dtype == meta["sex"].dtype == meta["field"].dtype == torch.int64
    assert meta["field"].tolist()[:2] == [-1, 0]
    assert meta["subject"].unique().numel() == 40
    assert not {"image", "split", "row", "manifest", "participant_id"} & set(meta)


def test_the_same_recipe_builds_the_same_network(cohort: Path):
    first, second, other = (
        assemble(recipe(cohort, "simclr", f"trainer.seed={seed}"), progress=False) for seed in (0, 0, 1)
    )
    assert weights_digest(first.method) == weights_digest(second.method)
    assert weights_digest(first.method) != weights_digest(other.method)


def test_sample_views_hold_the_scan_first_and_are_padded_squares(cohort: Path, tmp_path: Path):
    parts = assemble(
        recipe(cohort, "simclr", "data.preprocessing={spacing: [8, 8, 8], shape: [20, 24, 22]}"),
        progress=False,
    )
    write_sample_views(parts, tmp_path / "views.npz", scans=3)
    with np.load(tmp_path / "views.npz") as views:
        assert views["slices"].shape == (3, 3, 3, 24, 24)
        volume = parts.dataset.volume(int(views["rows"][0])).numpy()[0]
        assert views["slices"][0, 0, 0, :, 2:22].shape == (24, 20)
        assert views["slices"][0, 0, 0].max() == volume[10].max()
    assert [p.name for p in tmp_path.iterdir()] == ["views.npz"]


@pytest.mark.parametrize(
    ("device", "cuda", "accelerator", "late"),
    [
        ("auto", False, "auto", False),
        ("auto", True, "auto", True),
        ("auto", True, "cpu", False),
        ("loader", True, "auto", False),
        ("device", False, "cpu", True),
    ],
)
def test_where_views_are_made(device, cuda, accelerator, late, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    chosen = load_recipe("simclr", [f"views.device={device}", f"trainer.accelerator={accelerator}"])
    assert views_are_late(chosen) is late


def test_the_recipe_says_where_views_are_made_and_how_exactly(cohort: Path):
    parts = assemble(recipe(cohort, "simclr", "views.device=device", "views.products=bfloat16"), progress=False)
    assert parts.dataset.late
    assert parts.dataset.maker.policies[0].dtype == torch.bfloat16
    assert not assemble(recipe(cohort, "simclr"), progress=False).dataset.late


def test_pictures_show_the_views_also_where_they_are_made_late(cohort: Path, tmp_path: Path):
    pictures = []
    for device in ("loader", "device"):
        parts = assemble(recipe(cohort, "simclr", f"views.device={device}"), progress=False)
        write_sample_views(parts, tmp_path / "views.npz")
        with np.load(tmp_path / "views.npz") as views:
            pictures.append(views["slices"])
    assert pictures[0].shape == (4, 3, 3, 24, 24)
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-3


def test_voxels_are_averaged_to_about_eight_millimetres(cohort: Path):
    people = Cohort.read(cohort)
    whole = voxel_matrix(people, Preprocessing((8.0,) * 3, (24, 24, 24)), VolumeCache(), ("image",))
    half = voxel_matrix(people, Preprocessing((4.0,) * 3, (48, 48, 48)), VolumeCache(), ("image",))
    assert whole.shape[0] == half.shape[0] == 40
    assert 0.5 * whole.shape[1] < half.shape[1] <= 24**3
    assert (whole.std(0) > 0).all()


def stored(path: Path, **card: object) -> Path:
    torch.manual_seed(3)
    encoder = build_encoder("resnet18", width=4, depth=[1, 1], norm="group", stem="small")
    save_encoder(encoder, path, card)
    return path


def test_an_encoder_file_alone_is_enough_to_embed(tmp_path: Path):
    prep = Preprocessing((8.0,) * 3, (24, 24, 24))
    network = network_of(stored(tmp_path / "e.safetensors", preprocessing=prep.to_dict()), projection=False)
    assert network.preprocessing == prep
    assert network.images == ("image",)
    assert network.manifests == []
    plain = untrained_encoder(network, iter([]))
    assert plain.spec == network.encoder.spec
    assert not plain.training
    assert weights_digest(plain) != network.digest


@pytest.mark.parametrize(
    ("make", "projection", "words"),
    [
        (lambda p: p / "nothing.safetensors", False, "there is no such file"),
        (lambda p: p, False, "holds no encoder yet; finish it with"),
        (lambda p: stored(p / "e.safetensors"), False, "does not say how scans are prepared"),
        (
            lambda p: stored(p / "e.safetensors", preprocessing=Preprocessing().to_dict()),
            True,
            "has no projector; leave out --projection",
        ),
    ],
)
def test_what_is_no_trained_network_is_named(tmp_path: Path, make, projection: bool, words: str):
    with pytest.raises(UserError, match=words):
        network_of(make(tmp_path), projection)


def test_a_convolutional_encoder_cannot_be_masked(cohort: Path):
    convolution = "encoder={name: resnet18, width: 4, depth: [1, 1], norm: group, stem: small}"
    with pytest.raises(RecipeError, match=r"mae needs an encoder that returns tokens.*encoder\.name=vit"):
        assemble(recipe(cohort, "mae", convolution), progress=False)


def test_one_person_or_one_file_on_both_sides_of_the_split_is_refused(rewritten):
    def person(t):
        first = t.index[t["split"] == "train"][0]
        other = t.index[t["split"] != "train"][0]
        t.loc[other, "participant_id"] = t.loc[first, "participant_id"]
        return t.assign(session=[str(i) for i in range(len(t))])

    def file(t):
        t.loc[t.index[t["split"] != "train"][0], "image"] = t.loc[t.index[t["split"] == "train"][0], "image"]
        return t

    with pytest.raises(UserError, match="the same person stands in train and in a test split"):
        assemble(recipe(rewritten(person)), progress=False)
    with pytest.raises(UserError, match="the same file stands in train and in a test split"):
        assemble(recipe(rewritten(file)), progress=False)


def test_a_family_on_both_sides_of_the_split_is_refused_before_a_scan_is_read(rewritten):
    def family(t):
        t["Family"] = ""
        t.loc[[t.index[t["split"] == "train"][0], t.index[t["split"] != "train"][0]], "Family"] = "7"
        return t.assign(image=[f"{name}-gone.nii.gz" for name in t["image"]])

    with pytest.raises(
        UserError, match=r"family synthetic/7 is in train \(manifest.csv row .*keep each family on one side"
    ):
        assemble(recipe(rewritten(family)), progress=False)
    apart = [f"D{k}" for k in range(100)]
    manifest = rewritten(lambda t: family(t).assign(image=t["image"], dataset=apart[: len(t)]))
    assert assemble(recipe(manifest), progress=False).train_rows.size


def test_views_of_several_sizes_are_trained_on_and_shown(cohort: Path, tmp_path: Path, monkeypatch):
    """A method that asks for multi-crop: sizes, roles, steps with and without gradient caching, pictures."""
    crops = Shown("multicrop", {"n_local": 3, "local_shape": [12, 12, 12]}, free=("n_local", "local_shape"))
    monkeypatch.setattr(TwoView, "sees", classmethod(lambda cls, arguments: crops))
    changes = [*tiny_recipe(cohort, tmp_path / "run", "simclr"), "views.n_local=2", "trainer.epochs=1"]
    run = stages.pretrain("simclr", *changes, progress=False, page=False)
    with np.load(run / "views.npz") as arrays:
        assert arrays["slices"].shape[1] == 1 + 2 + 2
    parts = assemble(load_recipe("simclr", changes), progress=False)
    assert parts.dataset.maker is not None
    assert parts.dataset.maker.roles == ("global", "global", "local", "local")
    shapes = [tuple(view.shape[1:]) for view in parts.dataset[int(parts.train_rows[0]), 0]["views"]]
    assert shapes == [(24, 24, 24)] * 2 + [(12, 12, 12)] * 2
    extra = [f"output={tmp_path / 'cached'}", "trainer.micro_batch=4"]
    other = stages.pretrain("simclr", *changes, *extra, progress=False, page=False)
    logs = [pd.read_csv(folder / "logs" / "train.csv")["loss"] for folder in (run, other)]
    np.testing.assert_allclose(logs[0][0], logs[1][0], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("views.n_local=3", "views.n_local is no argument of 'pair'"),
        ("views.n_views=3", "views.n_views is fixed by the method"),
        ("views.polcy=none", "views.polcy is unknown; did you mean 'views.policy'"),
    ],
)
def test_views_that_the_method_does_not_leave_to_a_recipe_are_refused(cohort: Path, change: str, words: str):
    with pytest.raises(RecipeError, match=words):
        recipe(cohort, "simclr", change)


def test_views_that_do_not_fit_the_encoder_are_refused_before_a_scan_is_read(cohort: Path, tmp_path: Path, monkeypatch):
    crops = Shown("multicrop", {"local_shape": [12, 12, 12]})
    monkeypatch.setattr(TwoView, "sees", classmethod(lambda cls, arguments: crops))
    monkeypatch.setattr(VolumeCache, "prepare", None)
    vit = "encoder={name: vit, patch: 8, width: 24, depth: 1, heads: 2}"
    with pytest.raises(RecipeError, match=r"cannot be cut into such patches; pad them to \(16, 16, 16\)"):
        assemble(load_recipe("simclr", [*tiny_recipe(cohort, tmp_path / "run", "simclr"), vit]), progress=False)
