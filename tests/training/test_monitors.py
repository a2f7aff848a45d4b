from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from medssl.errors import UserError
from medssl.training.monitors import Monitor
from medssl.training.options import MonitorOptions
from medssl.types import Batch, Progress, Step

SCANS = 40
CPU = torch.device("cpu")
ROWS = np.arange(0, SCANS, 2)


def table() -> pd.DataFrame:
    return pd.DataFrame({
        "participant_id": [f"{k:03d}" for k in range(SCANS)],
        "age": np.linspace(20, 60, SCANS),
        "site": ["A", "A", "B", "C"] * (SCANS // 4),
        "sex": ["M", "F"] * (SCANS // 2),
        "subject": [f"p{k // 2}" for k in range(SCANS)],
    })  # fmt: skip


class Desk:
    """A monitor whose features are what a test wants, and what it said."""

    def __init__(self, run: Path, features: np.ndarray | None = None, **options: Any) -> None:
        self.said: list[str] = []
        self.asked: list[np.ndarray] = []
        self.drawn: list[Path] = []
        settings = {k: options.pop(k) for k in ("every", "scans", "holdout", "map") if k in options}
        given = np.random.default_rng(0).standard_normal((SCANS, 6)) if features is None else features
        self.features = torch.from_numpy(given)

        def embed(f: Any, device: torch.device, rows: np.ndarray) -> tuple[Tensor, Tensor]:
            self.asked.append(rows)
            return torch.from_numpy(rows), self.features[rows]

        def draw(frame: pd.DataFrame, title: str, path: Path) -> None:
            path.write_text(title)
            self.drawn.append(path)

        self.monitor = Monitor(
            run, MonitorOptions(**settings), table(), ROWS, embed, self.said.append, draw=draw, **options
        )

    def step(self, number: int, z: Tensor | None = None, **row: float) -> None:
        batch = Batch((torch.zeros(4, 1),), torch.arange(4), {})
        carry = {} if z is None else {"z": z}
        record = {
            "step": number,
            "epoch": 0,
            "loss": 1.0,
            "lr": 0.1,
            "grad_norm": 1.0,
            "chance": float("nan"),
        }
        self.monitor.on_step({**record, **row}, Step({"loss": torch.tensor(1.0)}, {}, carry), batch)

    def epoch(self, number: int, epochs: int = 10) -> None:
        method: Any = nn.Module()
        self.monitor.on_epoch(method, Progress(3 * (number + 1), 3 * epochs, number, epochs), CPU)


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / "logs" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def cells(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "logs" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def healthy(n: int = 8) -> Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(0))


def test_every_step_is_logged_with_the_health_of_its_embedding(tmp_path: Path):
    desk = Desk(tmp_path)
    desk.step(1, healthy())
    row, cell = lines(tmp_path, "train")[0], cells(tmp_path, "train")[0]
    wanted = {"step", "epoch", "loss", "chance", "lr", "grad_norm", "scans_per_s", "std", "rankme", "alignment",
              "uniformity"}  # fmt: skip
    assert wanted <= set(row)
    assert row["std"] == pytest.approx(0.25, abs=0.06)
    assert 1 < row["rankme"] <= 8
    assert row["alignment"] > 0 > row["uniformity"]
    assert row["chance"] is None
    assert cell["chance"] == "", "what is unknown stays empty"
    assert float(cell["std"]) == pytest.approx(row["std"])


def test_one_view_has_no_alignment_and_no_embedding_has_no_health(tmp_path: Path):
    desk = Desk(tmp_path)
    desk.step(1, healthy(4))
    desk.step(2)
    desk.step(3, healthy(1))
    one, none, single = lines(tmp_path, "train")
    assert one["alignment"] is None
    assert one["std"] > 0
    assert {none[k] for k in ("std", "rankme", "alignment", "uniformity")} == {None}
    assert single["uniformity"] is None


def test_a_collapse_is_said_in_words_once_and_only_when_it_lasts(tmp_path: Path):
    desk = Desk(tmp_path)
    point = torch.ones(8, 16) + 1e-4 * healthy()
    for step in range(1, 10):
        desk.step(step, point)
    desk.step(10, healthy())
    assert desk.said == []
    for step in range(11, 40):
        desk.step(step, point)
    assert len(desk.said) == 1
    assert desk.said[0].startswith("step 20: collapse")
    message = lines(tmp_path, "messages")[0]
    assert (message["step"], message["epoch"], message["level"]) == (20, 0, "warning")
    assert "healthy is about 0.250" in message["text"]


def test_a_short_training_that_ends_collapsed_is_said_to_and_one_that_recovers_is_not(tmp_path: Path):
    point = torch.ones(8, 16) + 1e-4 * healthy()
    short, recovered = Desk(tmp_path / "a", every=0), Desk(tmp_path / "b", every=0)
    for step, z in ((1, healthy()), (2, point), (3, point)):
        short.step(step, z)
        recovered.step(step, z if step < 3 else healthy())
    for desk in (short, recovered):
        assert desk.said == []
        desk.epoch(0, epochs=1)
    assert [text[:16] for text in short.said] == ["step 3: collapse"]
    assert recovered.said == []


def test_a_note_about_the_whole_training_is_kept_for_the_report(tmp_path: Path):
    desk = Desk(tmp_path)
    desk.monitor.note("6 steps are few")
    Desk(tmp_path, writes=False).monitor.note("another process's")
    assert [(m["level"], m["text"]) for m in lines(tmp_path, "messages")] == [("note", "6 steps are few")]
    assert desk.said == []


def test_a_common_mean_of_raw_features_is_no_collapse_but_of_compared_ones_is(tmp_path: Path):
    near = torch.ones(8, 16) + 0.02 * healthy()  # spread: 2 % of the healthy one
    raw, compared = Desk(tmp_path / "raw"), Desk(tmp_path / "unit")
    for step in range(1, 30):
        raw.step(step, 3 * near)
        compared.step(step, torch.nn.functional.normalize(near, dim=1))
    assert raw.said == []
    assert "check that the two views differ" in compared.said[0]
    for step in range(30, 50):
        raw.step(step, torch.full((8, 16), 3.0))
    assert "nearly one point" in raw.said[0]
    assert "two views" not in raw.said[0]


def test_a_loss_that_stays_at_chance_is_said_in_words(tmp_path: Path):
    desk = Desk(tmp_path)
    for step in range(1, 30):
        desk.step(step, healthy(), loss=2.0, chance=2.0)
    assert [text.split(";")[0] for text in desk.said] == [
        "step 20: no learning yet: the loss stays at its chance level 2.000"
    ]
    learning = Desk(tmp_path / "b")
    for step in range(1, 60):
        learning.step(step, healthy(), loss=2.0 - step / 100, chance=2.0)
    unknown = Desk(tmp_path / "c")
    for step in range(1, 60):
        unknown.step(step, healthy())
    assert learning.said == unknown.said == []


def test_probes_come_every_few_epochs_and_after_the_last(tmp_path: Path):
    desk = Desk(tmp_path, every=3)
    for epoch in range(10):
        desk.epoch(epoch)
    assert [r["epoch"] for r in lines(tmp_path, "probe")] == [2, 5, 8, 9]
    assert [p.name for p in desk.drawn] == [f"map-epoch{e:04d}.png" for e in (3, 6, 9, 10)]
    never = Desk(tmp_path / "b", every=0)
    for epoch in range(10):
        never.epoch(epoch)
    assert [r["epoch"] for r in lines(tmp_path / "b", "probe")] == [9]


def test_probes_see_training_rows_only_and_not_more_than_asked_for(tmp_path: Path):
    desk = Desk(tmp_path, every=1)
    desk.epoch(0)
    assert desk.asked[0].tolist() == ROWS.tolist()
    few = Desk(tmp_path / "b", every=1, scans=7)
    few.epoch(0)
    assert len(few.asked[0]) == 7
    assert set(few.asked[0]) < set(ROWS)
    assert (few.asked[0] == np.sort(few.asked[0])).all()
    other = Desk(tmp_path / "c", every=1, scans=7, seed=1)
    other.epoch(0)
    assert set(other.asked[0]) != set(few.asked[0])


def test_a_probe_reads_age_and_site_from_features_that_hold_them(tmp_path: Path):
    frame = table()
    codes = frame["site"].map({"A": 0, "B": 1, "C": 2}).to_numpy()
    knowing = np.column_stack([frame["age"], np.eye(3)[codes] * 30, np.ones((SCANS, 4))]).astype(float)
    desk = Desk(tmp_path, knowing, every=1)
    desk.epoch(0)
    row = lines(tmp_path, "probe")[0]
    assert row["age_mae"] < 0.5 * row["age_chance"]
    assert row["site_bacc"] > 0.9 > row["site_chance"]
    assert {"epoch", "step", "rankme", "std"} <= set(row)


def test_a_map_names_its_rows_and_keeps_its_place(tmp_path: Path):
    desk = Desk(tmp_path, every=1)
    desk.epoch(0)
    desk.features = -desk.features
    desk.epoch(1)
    logs = tmp_path / "logs"
    first, second = (pd.read_csv(logs / f"map-epoch000{k}.csv", dtype={"participant_id": str}) for k in (1, 2))
    assert first.columns.tolist() == ["row", "participant_id", "x", "y", "age", "site", "sex"]
    assert first["row"].tolist() == ROWS.tolist()
    assert first["participant_id"][1] == "002"
    assert np.allclose(first[["x", "y"]], second[["x", "y"]]), "a mirrored embedding is turned back"
    assert not list((tmp_path / "logs").glob("*.tmp"))
    bare = Desk(tmp_path / "b", every=1, map=False)
    bare.epoch(0)
    assert not list((tmp_path / "b" / "logs").glob("map*"))


def test_features_on_a_line_are_called_a_dimensional_collapse(tmp_path: Path):
    line = np.outer(np.linspace(1, 2, SCANS), np.ones(6))
    desk = Desk(tmp_path, line, every=1)
    desk.epoch(0)
    desk.epoch(1)
    assert len(desk.said) == 1
    assert "dimensional collapse" in desk.said[0]
    assert "of 6 dimensions" in desk.said[0]


@pytest.mark.parametrize(("spread", "collapsed"), [(0.05, False), (0.0, True), (1e-7, True)])
def test_a_mean_that_all_features_share_is_taken_out_before_a_collapse_is_said(
    tmp_path: Path, spread: float, collapsed: bool
):
    noise = np.random.default_rng(1).standard_normal((SCANS, 6))
    desk = Desk(tmp_path, 2.0 + spread * noise, every=1)
    desk.epoch(0)
    assert lines(tmp_path, "probe")[0]["rankme"] < 1.5, "RankMe itself is not centred, as in the paper"
    assert [("use 1.0 of 6 dimensions" in text) for text in desk.said] == [True] * collapsed


def test_features_that_are_no_numbers_do_not_stop_the_monitors(tmp_path: Path):
    desk = Desk(tmp_path, np.full((SCANS, 6), np.nan), every=1)
    desk.epoch(0)
    assert lines(tmp_path, "probe")[0]["rankme"] is None
    assert lines(tmp_path, "probe")[0]["age_mae"] is None


def test_the_rate_counts_scans_since_the_last_line_also_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr("medssl.training.monitors.time.perf_counter", lambda: clock[0])
    desk = Desk(tmp_path, accumulate=3)
    clock[0] = 2.0
    desk.step(5)
    desk.monitor.rewind(4)
    clock[0] = 4.0
    desk.step(6)
    assert [r["scans_per_s"] for r in lines(tmp_path, "train")] == [pytest.approx(2 * 4 * 3 / 2.0)]


def test_rewinding_keeps_what_was_before_in_all_logs(tmp_path: Path):
    desk = Desk(tmp_path, np.outer(np.linspace(1, 2, SCANS), np.ones(6)), every=1)
    for step in range(1, 7):
        desk.step(step)
        if step % 3 == 0:
            desk.epoch(step // 3 - 1)
    again = Desk(tmp_path, every=1)
    again.monitor.rewind(3)
    assert [r["step"] for r in lines(tmp_path, "train")] == [1, 2, 3]
    assert [r["step"] for r in lines(tmp_path, "probe")] == [3]
    assert [r["step"] for r in lines(tmp_path, "messages")] == [3]


def test_tensorboard_gets_the_numbers_where_it_is_installed(tmp_path: Path):
    pytest.importorskip("tensorboard")
    desk = Desk(tmp_path, every=1, tensorboard=True)
    desk.step(1, healthy())
    desk.epoch(0)
    desk.monitor.close()
    events = list((tmp_path / "logs" / "tensorboard").glob("events*"))
    content = events[0].read_bytes()
    assert b"train/loss" in content
    assert b"probe/age_mae" in content
    assert b"train/chance" not in content, "what is no number is not written"


def test_without_tensorboard_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"medssl\[tracking\]"):
        Desk(tmp_path, tensorboard=True)


def test_probes_keep_families_on_one_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[np.ndarray] = []

    def probe(features: Any, age: Any, site: Any, subject: np.ndarray, **options: Any) -> dict[str, float | None]:
        given.append(subject)
        return dict.fromkeys(("age_mae", "age_chance", "site_bacc", "site_chance"))

    monkeypatch.setattr("medssl.training.monitors.online_probe", probe)
    plain = table()
    bridge = [12.0, np.nan, 13.0, np.nan]  # rows 1 and 3 are of no training scan; p0 is in family 12, p1 in 13
    family = plain.assign(family=bridge + [np.nan] * (SCANS - 4))
    linked = family.assign(subject=[*family["subject"][:4], *["p1"] * 2, *family["subject"][6:]])
    linked.loc[5, "family"] = 12.0
    for k, frame in enumerate((plain, family, linked)):
        monkeypatch.setattr("tests.training.test_monitors.table", lambda frame=frame: frame)
        Desk(tmp_path / str(k), every=1, map=False).epoch(0)
    assert given[0].tolist() == plain["subject"].iloc[ROWS].tolist()
    assert given[1].tolist() == given[0].tolist()  # two families, nobody shared
    assert given[2][0] == given[2][1] == given[2][2] != given[2][3]
