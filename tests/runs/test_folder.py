from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from medssl import __version__, stages
from medssl.data.manifest.cohort import Cohort
from medssl.distributed import process_rank
from medssl.encoders.file import load_encoder, read_card, weights_digest
from medssl.environment import now, origin
from medssl.errors import UserError
from medssl.recipe.model import load_recipe
from medssl.runs.folder import Run
from medssl.training.checkpoints import checkpoint_name, write_checkpoint
from medssl.training.hardware.device import processes
from medssl.training.options import TrainerOptions
from tests.conftest import tiny_recipe


@pytest.fixture(scope="module")
def run(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training of two epochs."""
    folder = tmp_path_factory.mktemp("run") / "run"
    stages.pretrain(
        "exponential", *tiny_recipe(cohort, folder), "monitors.map=true", "trainer.epochs=2", progress=False
    )
    return Run(folder)


def test_a_run_folder_holds_everything_under_its_name(run: Run):
    names = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    logs = {f"logs/{n}" for n in ("train.csv", "train.jsonl", "probe.csv", "probe.jsonl")}
    maps = {"logs/map-epoch0002.csv", "logs/map-epoch0002.png"}
    kept = {"checkpoints/step-00000003.ckpt", "checkpoints/step-00000006.ckpt"}
    own = {
        "recipe.yaml",
        "run.json",
        "scans.csv",
        "scan-digests.json",
        "encoder.safetensors",
        "projection.safetensors",
        "views.npz",
        "report.html",
    }
    assert names - {"logs/messages.csv", "logs/messages.jsonl"} == own | logs | maps | kept


def test_the_recipe_in_the_folder_is_the_resolved_one(run: Run, cohort: Path):
    recipe = yaml.safe_load(run.recipe.read_text())
    assert recipe["trainer"]["epochs"] == 2
    assert recipe["optim"]["schedule"] == "onecycle"
    assert recipe["data"]["manifest"] == str(cohort)
    assert load_recipe(run.recipe).digest == run.read_info()["hashes"]["recipe"]


def test_run_json_says_what_was_trained_on_what(run: Run, cohort: Path):
    info = run.read_info()
    people = Cohort.read(cohort)
    train = people.table.iloc[people.rows("train")]
    assert info["medssl_version"] == __version__
    assert (info["state"], info["seed"], info["method"]) == ("finished", 0, "exponential")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info["created"])
    assert info["finished"] >= info["created"]
    assert info["hashes"]["manifest"] == people.digest
    assert info["hashes"]["encoder"] == weights_digest(load_encoder(run.encoder))
    assert {"python", "torch", "monai", "pytorch-lightning"} <= set(info["versions"])
    assert {"system", "cores", "threads", "gpu"} <= set(info["hardware"])
    training = info["training"]
    assert (training["scans"], training["rows_in_manifests"]) == (len(train), 40)
    assert training["subjects"] == train["subject"].nunique()
    assert training["sites"] == sorted(train["site"].unique())
    assert training["age"] == pytest.approx([train["age"].min(), train["age"].median(), train["age"].max()])
    assert training["manifests"] == [str(cohort)]
    assert training["datasets"] == {"synthetic": len(train)}
    assert training["synthetic"] == len(train)
    assert sum(s["n"] for s in training["per_site"]) == len(train)


def test_the_card_of_the_encoder_stands_alone(run: Run):
    card = read_card(run.encoder)
    info = run.read_info()
    spec = {
        "name": "resnet18",
        "in_channels": 1,
        "shape": [24, 24, 24],
        "width": 4,
        "depth": [1, 1],
        "norm": "group",
    }
    assert spec.items() <= card["encoder"].items()
    assert card["preprocessing"]["spacing"] == [8.0, 8.0, 8.0]
    assert card["preprocessing"]["mask"] == "nonzero"
    assert card["training"] == info["training"]
    assert card["hashes"] == {k: info["hashes"][k] for k in ("recipe", "manifest", "scans")}
    assert card["weights_sha256"] == info["hashes"]["encoder"]
    assert card["versions"] == info["versions"]
    assert card["medssl_version"] == __version__
    assert (card["method"], card["licence"], card["images"]) == ("exponential", "not stated", ["image"])
    assert card["recipe"] == yaml.safe_load(run.recipe.read_text())
    assert card["dim"] == load_encoder(run.encoder).dim


def test_the_logs_have_their_columns_and_every_step_once(run: Run):
    with (run.logs / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {"step", "epoch", "loss", "chance", "lr", "grad_norm", "scans_per_s", "std", "rankme", "alignment",
              "uniformity"}  # fmt: skip
    assert wanted <= set(rows[0])
    assert [int(r["step"]) for r in rows] == [1, 2, 3, 4, 5, 6]
    assert [int(r["epoch"]) for r in rows] == [0, 0, 0, 1, 1, 1]
    assert rows[0]["chance"] == "", "L_exp has no known chance level"
    assert all(np.isfinite(float(r[c])) for r in rows for c in wanted - {"chance"})
    programs = [json.loads(line) for line in (run.logs / "train.jsonl").read_text().splitlines()]
    assert [p["loss"] for p in programs] == pytest.approx([float(r["loss"]) for r in rows])
    probe = pd.read_csv(run.logs / "probe.csv")
    wanted = {"epoch", "step", "age_mae", "age_chance", "site_bacc", "site_chance", "rankme", "std"}
    assert wanted <= set(probe.columns)
    assert probe["epoch"].tolist() == [1]


def test_the_map_and_the_sample_views_are_of_training_rows(run: Run, cohort: Path):
    people = Cohort.read(cohort)
    chart = pd.read_csv(run.logs / "map-epoch0002.csv", dtype={"participant_id": str})
    assert chart.columns.tolist() == ["row", "participant_id", "x", "y", "age", "site", "sex"]
    assert set(chart["row"]) <= set(people.rows("train"))
    with np.load(run.views) as views:
        scans, columns, planes = views["slices"].shape[:3]
        assert (scans, columns, planes) == (4, 3, 3)
        assert views["slices"].dtype == np.float32
        assert set(views["rows"]) <= set(people.rows("train"))
        assert views["ages"] == pytest.approx(people.table["age"].to_numpy()[views["rows"]])
        assert not np.array_equal(views["slices"][:, 1], views["slices"][:, 2]), "two views differ"


def test_the_report_is_one_page_without_network(run: Run):
    page = run.report.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"(src|href)=[\"']https?://", page)
    assert "exponential" in page


def test_a_folder_that_holds_a_run_is_not_overwritten(run: Run, cohort: Path):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    with pytest.raises(UserError, match=rf"already holds a run; .*--resume {re.escape(str(run.folder))}"):
        stages.pretrain("exponential", *tiny_recipe(cohort, run.folder), progress=False)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


def test_a_run_that_died_before_its_first_checkpoint_can_be_started_again(tmp_path: Path):
    run = Run(tmp_path / "run")
    run.start("method: simclr\n", {"method": "simclr"})
    assert run.read_info()["state"] == "training"
    run.start("method: moco\n", {"method": "moco"})
    assert run.read_info()["method"] == "moco"
    write_checkpoint({}, run.checkpoints / checkpoint_name(1))
    with pytest.raises(UserError, match="already holds a run"):
        run.start("method: moco\n", {})


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file; set output="):
        Run(tmp_path / "run").start("", {})


def test_what_is_no_run_or_is_damaged_says_so(tmp_path: Path):
    with pytest.raises(UserError, match="is no run folder"):
        Run(tmp_path).read_info()
    (tmp_path / "run.json").write_text("{half")
    with pytest.raises(UserError, match="no valid JSON"):
        Run(tmp_path).read_info()


def test_changes_keep_the_other_entries(tmp_path: Path):
    run = Run(tmp_path / "run")
    run.start("", {"seed": 3})
    run.update({"state": "finished"})
    assert run.read_info() | {"created": "", "finished": ""} == {
        "created": "", "finished": "", "state": "finished", "seed": 3,
    }  # fmt: skip


def test_the_origin_is_plain_json_and_the_time_is_utc():
    found = json.loads(json.dumps(origin()))
    assert found["versions"]["medssl"] == __version__
    assert found["versions"]["torch"] != "not installed"
    assert now().endswith("Z")


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "2"}, 2),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"SLURM_PROCID": "3"}, 3),
        ({"RANK": "0", "SLURM_PROCID": "1"}, 0),  # torchrun inside one Slurm task per node
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, 1),  # started by the first task of an interactive job
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, 1),  # the first process of the second machine
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, 0),
    ],
)
def test_helpers_of_a_launch_know_their_rank(variables: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == rank


@pytest.mark.parametrize(
    ("options", "gpus", "number"),
    [
        ({"devices": 4, "nodes": 2}, 0, 8),
        ({}, 0, 1),
        ({"nodes": 3}, 4, 12),
        ({"accelerator": "cpu"}, 4, 1),
    ],
)
def test_processes_are_one_per_device(options: dict[str, Any], gpus: int, number: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert processes(TrainerOptions(**options)) == number


OWN = {"scans.csv": "mine", "recipe.yaml": "method: simclr\n", "run.json": '{"mine": 1}', "notes.txt": "mine"}


@pytest.mark.parametrize("name", [*OWN, "logs/mine.txt", "report.html", "checkpoints/mine.txt"])
def test_a_folder_that_holds_something_else_gets_no_run(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(OWN.get(name, "mine"))
    for step in (Run(tmp_path).refuse_taken, lambda: Run(tmp_path).start("method: simclr\n", {"id": "1"}, "scans")):
        with pytest.raises(UserError, match=f"{tmp_path} holds {name.split('/')[0]}, which is not of a run") as told:
            step()
        assert str(told.value).endswith("set output= to a new or empty folder")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()] == [name]
    assert (tmp_path / name).read_text() == OWN.get(name, "mine")


def test_a_run_that_died_before_its_first_checkpoint_is_written_over_and_an_input_never(tmp_path: Path):
    run = Run(tmp_path / "run")
    run.start("method: simclr\n", {"id": "1"}, "scans")
    for name in (".lock", ".report.html.host.1.abcd.tmp", "logs/train.csv", "views.npz", "features.csv"):
        (run.folder / name).write_text("begun")
    run.start("method: moco\n", {"id": "2"}, "other scans")
    assert (run.read_info()["id"], run.recipe.read_text(), run.scans.read_text()) == (
        "2", "method: moco\n", "other scans",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"scans\.csv is read by this run, so its folder is no place for the run"):
        run.refuse_taken([run.scans])
    (tmp_path / "link.csv").symlink_to(run.scans)
    with pytest.raises(UserError, match=r"scans\.csv is read by this run"):
        run.refuse_taken([tmp_path / "link.csv"])
    run.recipe.unlink()
    (run.folder / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds thesis\.tex, which is not of a run"):
        run.start("method: moco\n", {"id": "3"})
    assert not run.recipe.exists()


def test_a_training_into_the_folder_of_its_manifest_leaves_all_as_it_was(cohort: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(cohort)
    table["image"] = [str(cohort.parent / image) for image in table["image"]]
    table.to_csv("scans.csv", index=False)
    recipe = Path("recipe.yaml")
    recipe.write_text("method:\n  name: exponential\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(stages, "assemble", None)  # it is refused before a scan is looked at
    with pytest.raises(UserError, match=r"scans\.csv is read by this run"):
        stages.pretrain(str(recipe), "data.manifest=scans.csv", "output=.", progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_finds_no_room_for_its_first_file_leaves_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise UserError("no space left")

    monkeypatch.setattr("medssl.runs.folder.write_atomic", full)
    with pytest.raises(UserError, match="no space left"):
        Run(tmp_path / "run").start("method: moco\n", {"id": "1"})
    assert not (tmp_path / "run").exists()
