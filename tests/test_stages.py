from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import medssl
from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.encoders.file import load_encoder, weights_digest
from medssl.errors import StaleError, TrainingStopped, UserError
from medssl.features.table import FeatureTable
from medssl.runs.folder import Run
from medssl.training.checkpoints import checkpoint_name
from tests.conftest import tiny_recipe
from tests.test_files import HOLDER

QUICK = ("trainer.epochs=1", "monitors.every=0", "monitors.map=false")


def pretrain(method: str, manifest: Path, out: Path, *changes: str) -> Path:
    return stages.pretrain(method, *tiny_recipe(manifest, out, method), *QUICK, *changes, progress=False, page=False)


def digest(run: Path) -> str:
    return weights_digest(load_encoder(run / "encoder.safetensors"))


def losses(run: Path) -> list[float]:
    lines = (run / "logs" / "train.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def table_of(cohort: Path) -> pd.DataFrame:
    table = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    table["image"] = [str(cohort.parent / name) for name in table["image"]]
    return table


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain("exponential", cohort, tmp_path_factory.mktemp("stages") / "run")


def test_a_recipe_can_be_a_mapping_or_a_recipe(cohort: Path, tmp_path: Path):
    with pytest.raises(UserError, match="give a recipe file"):
        stages.pretrain()
    with pytest.raises(UserError, match="batch of 99 scans"):
        stages.pretrain({
            "method": "simclr",
            "data": {"manifest": str(cohort), "batch_size": 99},
            "output": str(tmp_path / "run"),
        })  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_resuming_by_a_changed_recipe_is_refused(trained: Path, cohort: Path, tmp_path: Path):
    run = pretrain("simclr", cohort, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("epochs: 1", "epochs: 7"))
    with pytest.raises(UserError, match="the recipe changed since"):
        stages.pretrain(resume=run, progress=False)
    (run / "recipe.yaml").write_text(recipe.replace("  epochs: 1", "  epochss: 1"))
    with pytest.raises(UserError, match=r"did you mean 'trainer\.epochs'"):
        stages.pretrain(resume=run, progress=False)


def test_ctrl_c_says_how_to_go_on(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medssl.training.session.fit", stop)
    with pytest.raises(KeyboardInterrupt, match=r"before the first checkpoint; start .*run again"):
        pretrain("simclr", cohort, tmp_path / "run")
    monkeypatch.undo()
    run = pretrain("simclr", cohort, tmp_path / "run")
    assert len(losses(run)) == 3, "the same output folder can be used after such a stop"


def test_features_and_scores_of_a_run_are_those_of_its_table(trained: Path, monkeypatch: pytest.MonkeyPatch):
    table = stages.embed(trained, progress=False)
    assert len(table) == 40
    assert table.provenance["encoder"] == digest(trained)
    monkeypatch.setattr(VolumeCache, "load", None)
    assert np.array_equal(stages.embed(trained, progress=False).values, table.values), "read from the table"
    run = stages.score(trained, references=False, resamples=50, progress=False).to_dict()
    csv = stages.score(trained / "features.csv", references=False, resamples=50, progress=False).to_dict()
    assert run == csv
    assert json.loads((trained / "scores.json").read_text()) == csv
    assert {
        "mae_internal",
        "mae_external",
        "site_bacc",
        "site_chance",
        "challenge",
        "ci",
        "references",
    } <= set(csv)
    assert (trained / "predictions.csv").is_file()
    assert "mae" in stages.report(trained).read_text().lower()


def test_a_run_on_weighted_manifests_is_scored_beside_its_references(cohort: Path, tmp_path: Path):
    table = table_of(cohort)
    few = table.index < 12
    table[few].to_csv(tmp_path / "few.csv", index=False)
    table[~few].to_csv(tmp_path / "many.csv", index=False)
    sources = f"data.manifests=[{{path: {tmp_path / 'few.csv'}, weight: 3}}, {{path: {tmp_path / 'many.csv'}}}]"
    run = pretrain("exponential", cohort, tmp_path / "run", "data.manifest=null", sources)
    scores = stages.score(run, resamples=20, progress=False)
    assert {"ridge_voxels", "untrained"} <= set(scores.references)
    assert FeatureTable.read(run / "features.csv").provenance["weights"] == [3.0, 1.0]
    assert not any("trained on" in note for note in scores.notes), "these are the run's own test rows"
    again = stages.embed(run, [tmp_path / "few.csv", tmp_path / "many.csv"], tmp_path / "two.csv", progress=False)
    assert "weights" not in again.provenance
    assert stages.score(tmp_path / "two.csv", resamples=20, progress=False).main == scores.main


def test_a_features_table_that_was_edited_is_not_scored(trained: Path, tmp_path: Path):
    table = stages.embed(trained, out=tmp_path / "features.csv", progress=False)
    text = (tmp_path / "features.csv").read_text()
    (tmp_path / "features.csv").write_text(text.replace("internal_test", "train", 1))
    with pytest.raises(StaleError, match="changed after it was written"):
        stages.score(tmp_path / "features.csv", references=False, progress=False)
    assert isinstance(table, FeatureTable)


def test_the_projection_is_another_table(trained: Path, cohort: Path, tmp_path: Path):
    h = stages.embed(trained, cohort, tmp_path / "h.npz", progress=False)
    z = stages.embed(trained, cohort, tmp_path / "z.npz", projection=True, progress=False)
    assert z.values.shape == (40, 128)
    assert h.values.shape[1] == load_encoder(trained / "encoder.safetensors").dim
    assert np.allclose(np.linalg.norm(z.values, axis=1), 1, atol=1e-5)
    assert (h.provenance["features"], z.provenance["features"]) == ("encoder", "projection")


def test_the_card_says_what_the_training_scans_looked_like(trained: Path, cohort: Path):
    card = stages.read_card(trained)
    train = (table_of(cohort)["split"] == "train").sum()
    assert (card["likeness"]["rows"], card["likeness"]["people"]) == (train, train)
    table = stages.embed(trained, progress=False)
    assert table.meta["unlike"].between(0, 1).all()
    assert len(json.dumps(card["likeness"])) < 300_000


def test_an_encoder_file_embeds_like_its_run(trained: Path, cohort: Path, tmp_path: Path):
    (tmp_path / "alone.safetensors").write_bytes((trained / "encoder.safetensors").read_bytes())
    alone = stages.embed(tmp_path / "alone.safetensors", cohort, tmp_path / "a.csv", progress=False)
    whole = stages.embed(trained, cohort, tmp_path / "b.csv", progress=False)
    assert np.array_equal(alone.values, whole.values)


def test_an_encoder_of_another_architecture_is_refused(trained: Path, cohort: Path, tmp_path: Path):
    with safe_open(trained / "encoder.safetensors", "pt") as file:
        card = json.loads(file.metadata()["medssl_card"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    card["encoder"]["width"] = 8
    del card["sha256"]
    save_file(weights, tmp_path / "other.safetensors", {"medssl_card": json.dumps(card)})
    with pytest.raises(UserError, match=r"other\.safetensors: .*another architecture"):
        stages.embed(tmp_path / "other.safetensors", cohort, tmp_path / "f.csv", progress=False)
    assert not (tmp_path / "f.csv").exists()


def test_the_references_come_from_the_scans_and_an_untrained_twin(trained: Path, cohort: Path):
    result = stages.score(trained, resamples=20, progress=False).to_dict()
    assert set(result["references"]) == {"constant", "age_oracle", "site_median", "ridge_voxels", "untrained"}
    assert result["references"]["untrained"]["mae_external"] != result["mae_external"]
    assert "missing" not in result["references"]["ridge_voxels"]
    untrained = FeatureTable.read(trained / "features-untrained.csv")
    assert untrained.provenance["features"] == "untrained"


@pytest.mark.parametrize(
    ("state", "checkpoint", "expected"),
    [
        (None, False, "start"),
        ("training", False, "start"),
        ("training", True, "resume"),
        ("finished", True, None),
    ],
)
def test_a_demo_goes_on_where_it_was_stopped(
    tmp_path: Path,
    cohort: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
    checkpoint: bool,
    expected: str | None,
):
    called: list[str] = []
    run = Run(tmp_path / "run")
    if state:
        run.start("method: simclr\n", {})
        run.update({"state": state})
    if checkpoint:
        (run.checkpoints / checkpoint_name(1)).write_bytes(b"")
    monkeypatch.setattr(stages, "synthesize", lambda *a, **k: cohort)
    monkeypatch.setattr(stages, "pretrain", lambda *a, **k: called.append("resume" if "resume" in k else "start"))
    monkeypatch.setattr(stages, "score", lambda *a, **k: None)
    monkeypatch.setattr(stages, "report", lambda *a, **k: None)
    said: list[str] = []
    stages.demo(tmp_path, quick=True, progress=False, say=said.append)
    assert called == ([expected] if expected else [])
    assert [line[:3] for line in said] == ["1/5", "2/5", "3/5", "4/5", "5/5"]


def test_a_run_never_takes_a_changed_manifest_for_its_own(cohort: Path, tmp_path: Path):
    manifest = tmp_path / "manifest.csv"
    table = table_of(cohort)
    table.to_csv(manifest, index=False)
    run = pretrain("simclr", manifest, tmp_path / "run")
    swapped = table["split"].map({"train": "internal_test"}).fillna("train")
    table.assign(split=swapped).to_csv(manifest, index=False)
    with pytest.raises(UserError, match=r"changed since .* was trained on it"):
        stages.score(run, progress=False)
    with pytest.raises(UserError, match="device is 'tpu', but it must be 'auto', 'cpu' or 'cuda'"):
        stages.embed(run, manifest, tmp_path / "f.csv", device="tpu", progress=False)
    with pytest.raises(UserError, match="say where the features"):
        stages.embed(run, manifest, progress=False)


def test_features_are_made_anew_when_a_scan_was_replaced(cohort: Path, tmp_path: Path):
    table = table_of(cohort)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, name in enumerate(table["image"]):
        (folder / f"{i}.nii.gz").write_bytes(Path(name).read_bytes())
    table["image"] = [str(folder / f"{i}.nii.gz") for i in range(len(table))]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    run = pretrain("simclr", tmp_path / "manifest.csv", tmp_path / "run")
    before = stages.embed(run, progress=False).values
    (folder / "0.nii.gz").write_bytes((folder / "1.nii.gz").read_bytes())
    after = stages.embed(run, progress=False).values
    assert not np.array_equal(before[0], after[0])
    assert np.array_equal(after[0], after[1])


def test_an_encoder_of_another_run_is_refused(trained: Path, cohort: Path, tmp_path: Path):
    run = pretrain("simclr", cohort, tmp_path / "run")
    (run / "encoder.safetensors").write_bytes((trained / "encoder.safetensors").read_bytes())
    with pytest.raises(StaleError, match="is not the encoder that"):
        stages.score(run, progress=False)


def test_weights_that_became_nan_leave_no_encoder(cohort: Path, tmp_path: Path):
    with pytest.raises(TrainingStopped, match=r"lower optim\.lr|lower\s+optim\.lr"):
        pretrain("simclr", cohort, tmp_path / "run", "optim.lr=1e30", "optim.schedule=constant", "trainer.epochs=2")
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


def test_a_run_is_continued_and_scored_from_any_folder(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(cohort.parent)
    pretrain("simclr", Path(cohort.name), tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(stages.embed(tmp_path / "run", progress=False)) == len(table_of(cohort))


def test_two_processes_do_not_write_one_run(cohort: Path, tmp_path: Path):
    """The lock of a run is held by another process: nothing is begun there."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(Run(tmp_path / "run").lock)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(UserError, match=r"another process is writing .*run"):
            pretrain("simclr", cohort, tmp_path / "run")
        assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]
    finally:
        holder.kill()
        holder.wait()


def test_test_rows_that_the_encoder_was_trained_on_are_named(trained: Path, cohort: Path, tmp_path: Path):
    def notes(table: pd.DataFrame, name: str) -> list[str]:
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        stages.embed(trained, tmp_path / f"{name}.csv", tmp_path / f"{name}-features.csv", progress=False)
        found = stages.score(tmp_path / f"{name}-features.csv", references=False, resamples=0, progress=False)
        return [note for note in found.notes if "trained on" in note]

    table = table_of(cohort)
    assert notes(table.assign(age=table["age"].astype(float) + 1), "same") == []
    swapped = table.assign(split=table["split"].map({"train": "internal_test"}).fillna("train"), dataset="other")
    (said,) = notes(swapped, "swapped")
    assert said.startswith(f"{(table['split'] == 'train').sum()} of ")
    copies = [tmp_path / f"copy-{k}.nii.gz" for k in range(len(table))]
    for name, copy in zip(table["image"], copies, strict=True):
        copy.write_bytes(Path(name).read_bytes())
    elsewhere = swapped.assign(image=[str(c) for c in copies])
    (said,) = notes(elsewhere, "elsewhere")
    assert "are the same image as a scan that was trained on by this encoder (first: row 2 (" in said
    for k, copy in enumerate(copies):  # other scans of the same people
        scan = nib.load(copy)
        noisy = scan.get_fdata() + np.random.default_rng(k).normal(0, 20, scan.shape) * (scan.get_fdata() > 0)
        nib.save(nib.Nifti1Image(noisy.astype(np.float32), scan.affine), copy)
    assert notes(elsewhere, "others") == []
    (said,) = notes(elsewhere.assign(dataset=table["dataset"]), "namesakes")
    assert "carry the id of somebody" in said
    with (tmp_path / "namesakes.csv").open("a") as file:
        file.write((tmp_path / "namesakes.csv").read_text().splitlines()[-1].replace("sub-", "other-", 1) + "\n")
    after = stages.score(tmp_path / "namesakes-features.csv", references=False, resamples=0, progress=False)
    (said,) = [note for note in after.notes if "trained on" in note]
    assert said.startswith(f"{tmp_path / 'namesakes.csv'} changed since the features were made, so who was trained on")


@pytest.mark.oddity("family-that-was-trained-on")
def test_test_rows_of_a_family_that_was_trained_on_are_named(cohort: Path, tmp_path: Path):
    table = table_of(cohort)
    train, test = (table.index[table["split"] == part].tolist() for part in ("train", "internal_test"))
    table["family"] = ""
    table.loc[train[:2], "family"] = "7"
    table.to_csv(tmp_path / "old.csv", index=False)
    run = pretrain("simclr", tmp_path / "old.csv", tmp_path / "run")
    new = table.loc[[*test, *train[:9]]].assign(dataset="", participant_id=lambda t: "new-" + t["participant_id"])
    new["split"] = ["internal_test"] * len(test) + ["train"] * 9
    new["family"] = ""
    copies = [tmp_path / f"copy-{k}.nii.gz" for k in range(len(new))]
    for name, copy in zip(new["image"], copies, strict=True):
        copy.write_bytes(Path(name).read_bytes())
    new["image"] = [str(copy) for copy in copies]

    def notes(name: str, **columns: object) -> list[str]:
        new.assign(**columns).to_csv(tmp_path / f"{name}.csv", index=False)
        stages.embed(run, tmp_path / f"{name}.csv", tmp_path / f"{name}-features.csv", progress=False)
        found = stages.score(tmp_path / f"{name}-features.csv", references=False, resamples=0, progress=False)
        return [note for note in found.notes if "trained on" in note or "two spellings" in note]

    sets = set(table.loc[train[:2], "dataset"])
    assert len(sets) == 1
    family = ["7.0", *[""] * (len(new) - 1)]
    assert notes("nobody") == []
    (said,) = notes("kin", family=family, dataset=sets.pop())
    assert said.startswith(
        f"1 of {len(test)} test rows are of a family that this encoder was trained on (first: kin.csv"
    )
    assert notes("apart", family=family, dataset="elsewhere") == []
    (said,) = notes("spelled", family=["07", *family[1:]])
    assert said.startswith("two families may be one family in two spellings ('7' of ")
    assert "a leak if they are one family" in said


def test_a_family_goes_from_the_manifest_into_the_scores(trained: Path, cohort: Path, tmp_path: Path):
    table = table_of(cohort)
    test = table.index[table["split"] != "train"]
    table.loc[test[:2], "family"] = 12  # a number with gaps, read as 12.0
    table.to_csv(tmp_path / "kin.csv", index=False)
    stages.embed(trained, tmp_path / "kin.csv", tmp_path / "f.csv", progress=False)
    assert "family" in FeatureTable.read(tmp_path / "f.csv").meta
    scores = stages.score(tmp_path / "f.csv", references=False, resamples=10, progress=False)
    assert any("intervals resample" in note for note in scores.notes)
    table.loc[table.index[table["split"] == "train"][0], "family"] = 12
    table.to_csv(tmp_path / "torn.csv", index=False)
    stages.embed(trained, tmp_path / "torn.csv", tmp_path / "t.csv", progress=False)
    with pytest.raises(UserError, match=r"family .*12 is in train"):
        stages.score(tmp_path / "t.csv", references=False, resamples=10, progress=False)


def test_a_finished_run_is_not_touched_again(trained: Path):
    before = (trained / "run.json").read_bytes()
    assert stages.finished_at(trained) == json.loads(before)["finished"]
    (trained / "report.html").write_text("a page")
    assert stages.pretrain(resume=trained, progress=False) == trained
    assert (trained / "report.html").read_text() == "a page"
    assert (trained / "run.json").read_bytes() == before
    assert stages.finished_at(trained / "nowhere") is None


def test_a_scan_is_prepared_as_for_the_training(trained: Path, cohort: Path):
    network = medssl.load_network(trained)
    image = table_of(cohort)["image"][0]
    h = network.encoder(network.prepare(image)).pooled[0].detach().numpy()
    table = stages.embed(trained, progress=False)
    np.testing.assert_allclose(h, table.values[0], atol=1e-5)
    with pytest.raises(UserError, match="reads 1 image"):
        network.prepare(image, image)


def test_own_columns_travel_into_the_features(trained: Path, cohort: Path, tmp_path: Path):
    table_of(cohort).assign(group="control", ward=7).to_csv(tmp_path / "own.csv", index=False)
    table = stages.embed(trained, tmp_path / "own.csv", tmp_path / "f.csv", progress=False)
    assert set(table.meta["group"]) == {"control"}
    assert {"image", "manifest", "row", "weight"}.isdisjoint(table.meta.columns)
    assert FeatureTable.read(tmp_path / "f.csv").meta["ward"].tolist() == [7] * len(table)


def test_a_score_of_nothing_says_so(tmp_path: Path):
    with pytest.raises(UserError, match=r"frist does not exist; give a run folder or a features table"):
        stages.score(tmp_path / "frist")
