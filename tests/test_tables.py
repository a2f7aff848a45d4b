"""The whole flow on a table of regional measures, and on parts of OpenBHB files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import stages
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import chosen_columns
from medssl.data.sources.openbhb import scan_openbhb
from medssl.data.sources.tables import write_manifest
from medssl.data.volumes.openbhb_layout import reading_as
from medssl.encoders.file import read_card
from medssl.errors import ManifestError, RecipeError, ScanWarning, UserError
from medssl.features.table import FeatureTable
from medssl.recipe.build import assemble
from medssl.recipe.model import load_recipe
from tests.data.sources import openbhb_lookalike as fake

QUICK = ("trainer.epochs=2", "trainer.accelerator=cpu", "monitors.every=0", "monitors.map=false", "data.batch_size=16")
SMALL = ("encoder.hidden=[16,8]", "method.projector=[8,8]")


def regions(path: Path, seed: int = 0, people: int = 90) -> Path:
    """A table with age in some measures, site in others, one empty cell."""
    rng = np.random.default_rng(seed)
    age, site = rng.uniform(8, 80, people).round(2), np.arange(people) % 5
    table = pd.DataFrame({"participant_id": [f"{k:04d}" for k in range(people)], "age": age})
    table["sex"], table["site"] = np.where(rng.random(people) < 0.5, "M", "F"), [f"site{k}" for k in site]
    inside = np.where(np.arange(people) % 3 == 1, "internal_test", "train")
    table["split"] = np.where(site == 4, "external_test", inside)
    for k in range(12):
        table[f"r{k}_volume"] = 100 + (k % 3) * age + 5 * (k % 2) * site + rng.normal(0, 8, people)
    table.loc[0, "r3_volume"] = np.nan
    table.to_csv(path, index=False)
    return path


def pretrain(manifest: Path, out: Path, *changes: str) -> Path:
    recipe = [f"data.manifest={manifest}", 'data.columns=["*_volume"]', f"output={out}", *QUICK, *SMALL]
    return stages.pretrain("exponential_roi", *recipe, *changes, progress=False, page=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("table")
    manifest = regions(folder / "regions.csv")
    return manifest, pretrain(manifest, folder / "run")


def test_a_table_is_trained_embedded_scored_and_reported(trained: tuple[Path, Path]):
    run = trained[1]
    result = stages.score(run, resamples=20, progress=False).to_dict()
    assert set(result["references"]) == {"constant", "age_oracle", "site_median", "ridge_features", "untrained"}
    assert "missing" not in result["references"]["ridge_features"]
    assert result["references"]["ridge_features"]["mae_external"] < result["references"]["constant"]["mae_external"]
    table = FeatureTable.read(run / "features.csv")
    assert table.values.shape == (90, 8)
    assert table.provenance["empty_cells"] == 1
    assert table.meta["participant_id"].iloc[7] == "0007"
    text = stages.report(run).read_text()
    assert "Ridge on the measures" in text
    assert "12 columns of the table, standardised by mean and sd of the training rows; 1 empty cell became" in text
    assert not (run / "views.npz").exists()


def test_the_card_holds_names_and_training_statistics(trained: tuple[Path, Path]):
    manifest, run = trained
    card = read_card(run / "encoder.safetensors")
    train = pd.read_csv(manifest).query("split == 'train'")
    assert card["columns"]["names"] == [f"r{k}_volume" for k in range(12)]
    assert np.allclose(card["columns"]["mean"], train[card["columns"]["names"]].mean())
    assert np.allclose(card["columns"]["sd"], train[card["columns"]["names"]].std(ddof=0))
    assert card["images"] == []


def test_another_table_is_embedded_by_the_training_statistics_whatever_its_order(
    trained: tuple[Path, Path], tmp_path: Path
):
    manifest, run = trained
    table = pd.read_csv(manifest, dtype={"participant_id": str})
    other = table[[*table.columns[:5], *reversed(table.columns[5:])]].iloc[40:60]
    other.to_csv(tmp_path / "other.csv", index=False)
    own = stages.embed(run, progress=False)
    part = stages.embed(run / "encoder.safetensors", tmp_path / "other.csv", tmp_path / "f.csv", progress=False)
    assert np.allclose(part.values, own.values[40:60], atol=1e-5)
    other.drop(columns="r5_volume").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(ManifestError, match='no column "r5_volume"'):
        stages.embed(run, tmp_path / "less.csv", tmp_path / "g.csv", progress=False)
    assert not (tmp_path / "g.csv").exists()


def test_scores_of_a_table_without_references_name_the_right_ones_as_missing(trained: tuple[Path, Path]):
    found = stages.score(trained[1], references=False, resamples=0, progress=False).to_dict()["references"]
    assert "missing" in found["ridge_features"]
    assert "ridge_voxels" not in found


def test_a_run_on_a_table_is_resumed_and_a_changed_cell_is_noticed(tmp_path: Path):
    manifest = regions(tmp_path / "regions.csv")
    run = pretrain(manifest, tmp_path / "run")
    text = manifest.read_text().splitlines()
    cells = text[5].split(",")
    cells[-1] = "1"
    manifest.write_text("\n".join([*text[:5], ",".join(cells), *text[6:]]) + "\n")
    with pytest.raises(UserError, match="manifest changed since"):
        stages.pretrain(resume=run, progress=False)


def test_views_of_space_are_refused_on_a_table(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"flip values that have no place in space; set views\.policy=table"):
        pretrain(regions(tmp_path / "r.csv"), tmp_path / "run", "views.policy=robust")
    assert not (tmp_path / "run").exists()


def test_features_are_no_labels_of_a_batch_but_a_method_may_read_one(tmp_path: Path):
    manifest = regions(tmp_path / "r.csv")
    base = [f"data.manifest={manifest}", 'data.columns=["*_volume"]', *QUICK, *SMALL]
    parts = assemble(load_recipe("exponential_roi", base), progress=False)
    assert not [name for name in parts.dataset.meta if name.endswith("_volume")]
    assert "age" in parts.dataset.meta
    kernel = "method.kernels={r0_volume: {kernel: rbf, bandwidth: 5.0}}"
    parts = assemble(load_recipe("exponential_roi", [*base, kernel]), progress=False)
    assert "r0_volume" in parts.dataset.meta
    assert parts.dataset.volume(3).shape == (1, 12, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco", "y_aware", "threshold", "l1_age"])
def test_other_methods_train_on_a_table(tmp_path: Path, method: str):
    changes = ["encoder={name: mlp, hidden: [8, 4], norm: layer}", "views.policy=table", 'data.columns=["*_volume"]']
    changes += [f"data.manifest={regions(tmp_path / 'r.csv')}", f"output={tmp_path / 'run'}", *QUICK]
    run = stages.pretrain(method, *changes, "trainer.epochs=1", progress=False)
    assert stages.embed(run, progress=False).values.shape == (90, 4)


@pytest.mark.parametrize("modality", ["desikan_roi", "xhemi", "vbm_roi"])
def test_surfaces_and_regions_of_openbhb_are_vectors_for_the_perceptron(tmp_path: Path, modality: str):
    with reading_as(fake.SMALL):
        values = fake.write_arrays(tmp_path / "data")
        manifest = write_manifest(scan_openbhb(tmp_path / "data", modality), tmp_path / "m.csv")
        changes = [f"data.manifest={manifest}", "data.columns=null", *QUICK, *SMALL, "data.batch_size=4"]
        plain = "data.preprocessing={intensity: none, mask: none}"
        parts = assemble(load_recipe("exponential_roi", [*changes, plain]), progress=False)
        assert parts.dataset.volume(3).shape == fake.SMALL.block(modality).shape
        assert np.array_equal(parts.dataset.volume(3).numpy(), fake.volumes(values, modality)[3])
        with pytest.raises(RecipeError, match=r"views\.policy=table"):
            assemble(load_recipe("exponential_roi", [*changes, plain, "views.policy=yaware"]), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["desikan_roi", "xhemi", "vbm_roi"])
def test_surfaces_and_regions_of_openbhb_train_the_perceptron(tmp_path: Path, modality: str):
    with reading_as(fake.SMALL):
        fake.write_arrays(tmp_path / "data")
        manifest = write_manifest(scan_openbhb(tmp_path / "data", modality), tmp_path / "m.csv")
        changes = [f"data.manifest={manifest}", f"output={tmp_path / 'run'}", "data.columns=null", *QUICK, *SMALL]
        changes += ["data.preprocessing={intensity: none, mask: none}", "data.batch_size=4"]
        run = stages.pretrain("exponential_roi", *changes, progress=False)
        table = stages.embed(run, progress=False)
        assert table.values.shape == (19, 8)
        assert not (run / "views.npz").exists()
        scores = stages.score(run, resamples=0, progress=False).to_dict()
        assert "missing" not in scores["references"]["ridge_voxels"]


@pytest.mark.slow
def test_masked_volumes_of_openbhb_train_a_network(tmp_path: Path):
    with reading_as(fake.SMALL):
        fake.write_arrays(tmp_path / "data")
        manifest = write_manifest(scan_openbhb(tmp_path / "data", "vbm"), tmp_path / "m.csv")
        changes = [f"data.manifest={manifest}", f"output={tmp_path / 'run'}", *QUICK, "data.batch_size=4"]
        changes += ["data.preprocessing={spacing: [1.5, 1.5, 1.5], shape: [8, 8, 8], intensity: zscore, mask: none}"]
        changes += ["encoder={name: resnet18, width: 4, depth: [1], norm: group, stem: small}"]
        run = stages.pretrain("exponential", *changes, progress=False)
        assert stages.embed(run, progress=False).values.shape[0] == 19
        info = json.loads((run / "run.json").read_text())
        assert info["training"]["scans"] == 12


@pytest.mark.oddity("measures-unlike-training")
def test_measures_unlike_those_of_the_training_are_said(trained: tuple[Path, Path], tmp_path: Path):
    manifest, run = trained
    own = stages.embed(run, progress=False)
    assert own.meta["unlike"].between(0, 1).all()
    assert (own.meta["unlike"] > 0.95).mean() < 0.2
    assert "unlike" not in own.provenance
    table = pd.read_csv(manifest, dtype={"participant_id": str})
    volumes = [name for name in table if name.endswith("_volume")]
    table[volumes] = table[volumes] * 1000
    table.to_csv(tmp_path / "other.csv", index=False)
    with pytest.warns(ScanWarning, match="90 of 90 scans look unlike the .*far off in the encoder's features"):
        other = stages.embed(run, tmp_path / "other.csv", tmp_path / "f.csv", progress=False)
    assert other.meta["unlike"].min() > 0.97
    with pytest.raises(ManifestError, match="unlike is a label, not a feature"):
        chosen_columns(Cohort.read(own_table(other, tmp_path / "own.csv"), images=False), ["unlike"])


def own_table(table: FeatureTable, path: Path) -> Path:
    """The meta columns of a features table as a manifest."""
    table.meta.drop(columns="subject").to_csv(path, index=False)
    return path
