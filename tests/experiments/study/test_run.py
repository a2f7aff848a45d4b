from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from medssl import stages
from medssl.errors import ManifestError, UserError
from medssl.evaluation.scorecard import scorecard
from medssl.experiments.study import run as running
from medssl.experiments.study import trial as trials
from medssl.experiments.study.run import open_study, prepare, run_task
from medssl.experiments.study.table import tabulate
from medssl.experiments.study.trial import is_no_memory, run_trial
from medssl.features.table import FeatureTable
from medssl.recipe.model import load_recipe
from tests.experiments.study.conftest import CHANGES, write

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("without_report")


def stamps(out: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in sorted(out.glob("trials/*/trial.json"))}


def test_array_tasks_share_a_grid_and_leave_run_folders_a_table_and_the_best_recipe(tmp_path: Path, measures: Path):
    three = {"method.temperature": [0.1, 0.5, 0.9]}
    study, out = write(tmp_path / "s.yaml", grid=three, test=True), tmp_path / "out"
    first = run_task(study, out, 0, of=2, data=measures)
    assert tabulate(open_study(out))["missing"] == 1
    second = run_task(study, out, 1, of=2, data=measures)
    records = [record for record in (*first, *second) if record]
    assert [record["settings"]["method.temperature"] for record in records] == [0.1, 0.9, 0.5]
    for record in records:
        run = out / "trials" / record["name"] / "run"
        assert stages.finished_at(run)
        recipe = load_recipe(run / "recipe.yaml")
        assert recipe.method.arguments["temperature"] == record["settings"]["method.temperature"]
        assert recipe.data.manifest == str(out / "train.csv")
        assert json.loads((run / "scores.json").read_text())["challenge"] == record["scores"]["challenge"]
        assert record["test"]["mae_external"] not in (None, record["scores"]["mae_external"])
    again = scorecard(FeatureTable.read(run / "features.csv"), resamples=0)
    assert record["scores"]["challenge"] == again.main["challenge"]
    found = tabulate(open_study(out))
    assert (found["missing"], found["stopped"]) == (0, 0)
    means = {line["settings"]["method.temperature"]: line["score"] for line in found["lines"]}
    best = load_recipe(out / "best.yaml")
    assert best.method.arguments["temperature"] == min(means, key=lambda k: means[k])
    assert best.data.manifest == str(measures)
    assert (out / "study.md").read_text() == found["markdown"]
    assert (out / "study.png").read_bytes()[:4] == b"\x89PNG"
    before = stamps(out)
    assert run_task(study, out, 0, of=2, data=measures) == first
    assert stamps(out) == before
    with pytest.raises(UserError, match="task 3 is outside 0 to 2"):
        run_task(study, out, 3, data=measures)


def test_an_interrupted_study_keeps_what_is_finished_and_continues_what_began(
    tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch
):
    study, out = write(tmp_path / "s.yaml", grid={"method.temperature": [0.1, 0.5]}), tmp_path / "out"
    calls: list[int] = []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scorecard(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trials, "scorecard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_task(study, out, 0, of=1, data=measures)
    before = stamps(out)
    assert len(before) == 1
    encoders = {p: p.stat().st_mtime_ns for p in out.glob("trials/*/run/encoder.safetensors")}
    assert len(encoders) == 2
    records = run_task(study, out, 0, of=1, data=measures)
    assert [record["scores"]["challenge"] > 0 for record in records if record] == [True, True]
    assert before.items() <= stamps(out).items()
    assert {p: p.stat().st_mtime_ns for p in encoders} == encoders
    assert not list(out.rglob(".lock"))


def test_a_training_that_stops_is_a_result(tmp_path: Path, measures: Path):
    study, out = write(tmp_path / "s.yaml", grid={"optim.lr": [1e30, 3e-3]}), tmp_path / "out"
    stopped, fine = run_task(study, out, 0, of=1, data=measures)
    assert stopped is not None
    assert fine is not None
    assert "the loss is not finite at step 1" in stopped["stopped"]
    assert "scores" not in stopped
    found = tabulate(open_study(out))
    assert found["stopped"] == 1
    assert found["best"]["settings"] == {"optim.lr": 3e-3}
    assert run_task(study, out, 0, of=2, data=measures) == [stopped]


def test_too_little_memory_is_told_from_a_bug():
    assert is_no_memory(RuntimeError("CUDA out of memory. Tried to allocate 3 GiB"))
    assert is_no_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_no_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_values_may_be_added_but_what_makes_scores_comparable_stays(tmp_path: Path, measures: Path):
    out = tmp_path / "out"
    prepare(write(tmp_path / "s.yaml"), out, measures)
    prepare(write(tmp_path / "s.yaml", grid={"method.temperature": [0.9], "trainer.seed": [0]}), out, measures)
    assert open_study(out).study.count == 1
    with pytest.raises(UserError, match="cannot be compared with these; give another -o"):
        prepare(write(tmp_path / "s.yaml", changes=[*CHANGES, "optim.lr=0.1"]), out, measures)
    with pytest.raises(UserError, match="is no study folder"):
        open_study(tmp_path)


def test_a_trial_that_another_process_is_at_is_left_alone(tmp_path: Path, measures: Path):
    place = prepare(write(tmp_path / "s.yaml"), tmp_path / "out", measures)
    settings = place.study.trials()[0]
    folder = place.trial(settings)
    folder.mkdir(parents=True)
    code = "import fcntl,sys; f=open(sys.argv[1],'a'); fcntl.lockf(f,fcntl.LOCK_EX); print('held',flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, str(folder / ".lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert run_trial(place, settings) is None
        assert not (folder / "run").exists()
        other.communicate("\n")


def test_local_processes_share_the_cores(tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[int, int, int]] = []

    def counted(work: object, plan: list[object], jobs: int, *, threads: int, **_: object) -> None:
        asked.append((len(plan), jobs, threads))

    monkeypatch.setattr(running, "spread", counted)
    monkeypatch.setattr(running, "processors", lambda: 16)
    for jobs, cards in ((3, []), (None, []), (None, ["0", "1"]), (99, [])):
        monkeypatch.setattr(running, "gpus", lambda cards=cards: cards)
        running.run_study(write(tmp_path / "s.yaml"), tmp_path / "out", data=measures, jobs=jobs, progress=False)
    assert asked == [(4, 3, 5), (4, 4, 4), (4, 2, 8), (4, 4, 4)]


@pytest.mark.slow
def test_a_killed_study_of_real_processes_goes_on(tmp_path: Path, measures: Path):
    changes = [*CHANGES, "trainer.epochs=150"]
    grid = {"method.temperature": [0.1, 0.5], "trainer.seed": [0, 1]}
    study, out = write(tmp_path / "s.yaml", changes=changes, grid=grid), tmp_path / "out"
    command = [sys.executable, "-m", "medssl", "study", "run", str(study), "--data", str(measures), "-o", str(out)]
    command += ["--jobs", "2", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        if stamps(out) and list(out.glob("trials/*/run/checkpoints/*.ckpt")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    time.sleep(1)
    logs = {p: p.stat().st_size for p in out.glob("trials/*/run/logs/train.jsonl")}
    before = stamps(out)
    assert 1 <= len(before) < 4
    time.sleep(2)
    assert {p: p.stat().st_size for p in logs} == logs, "a worker outlived its parent"
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=400)
    assert before.items() <= stamps(out).items()
    assert len(stamps(out)) == 4
    for log in out.glob("trials/*/run/logs/train.jsonl"):
        steps = [json.loads(row)["step"] for row in log.read_text().splitlines()]
        assert steps == sorted(set(steps))


def test_a_damaged_record_is_named_with_what_to_do(tmp_path: Path, measures: Path):
    study, out = write(tmp_path / "s.yaml", grid={"method.temperature": [0.1]}), tmp_path / "out"
    place = prepare(study, out, measures)
    record = place.trial(place.study.trials()[0]) / "trial.json"
    record.parent.mkdir(parents=True)
    for damaged in ('{"identity": ', "[]", "\x00"):
        record.write_text(damaged)
        with pytest.raises(UserError, match=r"trial\.json is (damaged|a list).*; delete it, and its trial"):
            tabulate(place)
    record.unlink()
    (out / "study.json").write_text("{")
    for call in (lambda: open_study(out), lambda: prepare(study, out, measures)):
        with pytest.raises(UserError, match=r"study\.json is damaged .*; delete it and give .* again"):
            call()
    (out / "study.json").unlink()
    assert prepare(study, out, measures).identity == place.identity


@pytest.mark.oddity("age-unit-in-use")
def test_a_study_refuses_ages_in_months_before_its_folder_is_made(measures: Path, tmp_path: Path):
    table = pd.read_csv(measures, dtype=str, keep_default_na=False)
    table["age"] = [f"{12 * float(age):.0f}" for age in table["age"]]
    table.to_csv(tmp_path / "months.csv", index=False)
    study = write(tmp_path / "s.yaml")
    with pytest.raises(ManifestError, match=r"months\.csv: \d+ ages \(.*\) look like months"):
        prepare(study, tmp_path / "out", tmp_path / "months.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.oddity("age-impossible-in-use")
def test_a_study_refuses_an_impossible_age_that_its_method_reads(measures: Path, tmp_path: Path):
    table = pd.read_csv(measures, dtype=str, keep_default_na=False)
    row = table.index[table["split"] == "train"][0]
    table.loc[row, "age"] = "-3"
    table.to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(ManifestError, match=rf"odd\.csv row {row + 2} \(.*\): age -3 is not between 0 and 120 years"):
        prepare(write(tmp_path / "s.yaml"), tmp_path / "out", tmp_path / "odd.csv")
