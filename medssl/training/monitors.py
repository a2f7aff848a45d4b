"""What is watched while training: health of the embedding per step, probes and a 2-D map every few epochs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medssl.documents.shape import checked
from medssl.errors import UserError, count
from medssl.evaluation.metrics.representation import alignment, rankme, uniformity
from medssl.evaluation.metrics.representation import std as embedding_std
from medssl.evaluation.online import map2d, online_probe
from medssl.files import TEMPORARY_SUFFIX, is_abandoned, make_folder, write_atomic
from medssl.methods.base import Method
from medssl.tables.people import groups_of
from medssl.training.log import Log
from medssl.training.options import MonitorOptions
from medssl.types import Batch, Progress, Step

_MAP = re.compile(r"map-epoch(\d+)\.(csv|png)$")
_FLAT = 1e-3
"""Share of the healthy standard deviation below which raw features are one point."""

EmbedRows = Callable[[Callable[[Tensor], Tensor], torch.device, np.ndarray], tuple[Tensor, Tensor]]


class _Memory(TypedDict):
    previous: Any
    told: list[str]
    recent: list[float]
    low: int
    flat: str


class Memory(_Memory, total=False):
    """What a monitor remembers. previous: the last map (N, 2) float64. told: kinds of warning that were given.

    recent: the last losses. low: steps in a row whose embedding is nearly one point. flat: what would be said of it.
    rows: how many every log has.
    """

    rows: dict[str, int]


class Monitor:
    """Writes logs/train, logs/probe, logs/messages and maps of one run; never touches the training's state.

    table: manifest columns of all rows. rows: training rows that probes may use. say: prints a sentence.
    draw(frame, title, path) makes the picture of a map. accumulate: batches per step, for the rate. writes: False in
    processes that only help to embed. What it remembers from step to step is in ``memory``, which travels in
    checkpoints, so that the logs of a run that was killed and continued are those of one that was not.
    """

    def __init__(
        self,
        run: Path,
        options: MonitorOptions,
        table: pd.DataFrame,
        rows: np.ndarray,
        embed: EmbedRows,
        say: Callable[[str], None],
        draw: Callable[[pd.DataFrame, str, Path], None] | None = None,
        tensorboard: bool = False,
        seed: int = 0,
        accumulate: int = 1,
        writes: bool = True,
    ) -> None:
        self.folder, self.writes = run / "logs", writes
        if writes:
            make_folder(self.folder)
        self.options, self.table, self.embed, self.say, self.draw = options, table, embed, say, draw
        keep = np.random.default_rng([seed, 0x90B]).permutation(rows)[: options.scans]
        self.groups = groups_of(table).astype(str)  # probes keep people, and families, on one side
        self.rows, self.seed, self.accumulate = np.sort(keep), seed, accumulate
        self.train, self.probe, self.messages = (Log(self.folder, n) for n in ("train", "probe", "messages"))
        self._logs = (self.train, self.messages, self.probe)
        self.previous: np.ndarray | None = None
        self.told: set[str] = set()
        self.recent: list[float] = []
        self.low, self.flat = 0, ""
        self.clock, self.steps = time.perf_counter(), 0
        self._open_board = tensorboard_writer() if tensorboard and writes else None
        self.board: Any = None

    def memory(self) -> dict[str, Any]:
        """What later rows, maps and messages depend on, as plain values and a tensor."""
        previous = None if self.previous is None else torch.from_numpy(self.previous.copy())
        told = sorted(self.told)
        rows = {log.jsonl.name: log.rows for log in self._logs}
        kept = {"recent": list(self.recent), "low": self.low, "flat": self.flat, "rows": rows}
        return {"previous": previous, "told": told, **kept}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take back what ``memory`` gave; nothing where an older medssl kept none. UserError for other forms."""
        if not memory:
            return
        given = checked(dict(memory), Memory, "the monitors' part", "so it has another form")
        previous = given["previous"]
        if previous is not None and getattr(previous, "shape", None) != (len(self.rows), 2):
            raise UserError(f"the monitors' part: previous is no map of {len(self.rows)} scans")
        self.previous = None if previous is None else previous.double().cpu().numpy()
        self.told, self.recent = set(given["told"]), [float(loss) for loss in given["recent"]]
        self.low, self.flat = given["low"], given["flat"]
        for log in self._logs if self.writes else ():
            before = given.get("rows", {}).get(log.jsonl.name, 0)
            if log.rows < before:
                self.say(f"{log.jsonl} has lost {before - log.rows} of its {count(before, 'row')}, so curves lack them")

    def rewind(self, step: int) -> None:
        """Continue after ``step``: later rows and maps are dropped, and what a killed process left half-written."""
        probed = [log.rewind(step) for log in self._logs][-1]
        kept = {int(row["epoch"]) + 1 for row in probed if isinstance(row.get("epoch"), int)}
        for path in self.folder.glob("map-epoch*"):
            named = _MAP.fullmatch(path.name)
            if named and int(named[1]) not in kept:
                path.unlink(missing_ok=True)
        for path in self.folder.glob(f".*{TEMPORARY_SUFFIX}"):
            if is_abandoned(path):
                path.unlink(missing_ok=True)
        if self._open_board is not None:
            self._start_board(step)
        self.clock, self.steps = time.perf_counter(), step

    def _start_board(self, step: int) -> None:
        """Write for TensorBoard; of an earlier attempt it shows what lies before ``step``, of a new run nothing."""
        folder = self.folder / "tensorboard"
        for path in folder.glob("events*") if step == 0 else ():
            path.unlink(missing_ok=True)
        if self._open_board is not None:
            self.board = self._open_board(str(folder), purge_step=step + 1 if step else None)

    def _scalar(self, name: str, value: float, step: int) -> None:
        """One number for TensorBoard, where that is wanted and it is a number."""
        if self._open_board is None or math.isnan(value):
            return
        if self.board is None:
            self._start_board(0)
        self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Hand the last numbers to TensorBoard."""
        if self.board is not None:
            self.board.close()

    def on_step(self, record: Mapping[str, float], out: Step, batch: Batch) -> None:
        """Log one step with the health of z."""
        now = time.perf_counter()
        steps = int(record["step"]) - self.steps
        rate = steps * len(batch) * self.accumulate / max(1e-9, now - self.clock)
        self.clock, self.steps = now, int(record["step"])
        health = _health(out.carry.get("z"), batch)
        row = dict(record) | {"scans_per_s": rate} | health
        self.train.write(row)
        for key, value in row.items():
            if key not in ("step", "epoch"):
                self._scalar(f"train/{key}", value, int(record["step"]))
        self._judge(row, out.carry.get("z"))

    def on_epoch(self, method: Method, progress: Progress, device: torch.device) -> None:
        """Probe and draw every few epochs and after the last one."""
        last = progress.step >= progress.steps
        every = self.options.every
        if not last and (every == 0 or (progress.epoch + 1) % every):
            return

        def pooled(x: Tensor) -> Tensor:
            return method.encoder(x).pooled

        index, h = self.embed(pooled, device, self.rows)
        if not self.writes:
            return
        rows, features = index.cpu().numpy(), h.float().cpu().numpy()
        part = self.table.iloc[rows]
        answer = online_probe(
            features,
            part["age"].to_numpy(float),
            part["site"].to_numpy(str),
            self.groups[rows],
            holdout=self.options.holdout,
            seed=self.seed,
        )
        rank = rankme(features)
        record = {"epoch": progress.epoch, "step": progress.step, **answer}
        record |= {"rankme": rank, "std": embedding_std(features)}
        self.probe.write(record)
        for key, value in record.items():
            if isinstance(value, float):
                self._scalar(f"probe/{key}", value, progress.step)
        if last and self.low:  # too few steps for ten in a row
            self._tell("std", progress.step, progress.epoch, self.flat)
        used = _used_dimensions(features)
        if used < 1.5 and features.shape[1] > 4:
            self._tell(
                "rank",
                progress.step,
                progress.epoch,
                f"dimensional collapse: the features of {len(rows)} scans use {used:.1f} of "
                f"{features.shape[1]} dimensions (RankMe about their mean); raise the batch size or lower optim.lr",
            )
        if self.options.map and len(rows) >= 3:
            self._map(part, rows, features, progress)

    def _map(self, part: pd.DataFrame, rows: np.ndarray, features: np.ndarray, progress: Progress) -> None:
        self.previous = map2d(features, self.previous)
        frame = pd.DataFrame({"row": rows, "participant_id": part["participant_id"].to_numpy()})
        frame["x"], frame["y"] = self.previous[:, 0], self.previous[:, 1]
        for column in ("age", "site", "sex"):
            frame[column] = part[column].to_numpy()
        path = self.folder / f"map-epoch{progress.epoch + 1:04d}.csv"
        write_atomic(path, frame.to_csv(index=False))
        if self.draw is not None:
            self.draw(frame, f"epoch {progress.epoch + 1}", path.with_suffix(".png"))

    def _judge(self, row: Mapping[str, float], z: Tensor | None) -> None:
        step, epoch = int(row["step"]), int(row["epoch"])
        angular = z is not None and _unit_rows(z)
        limit = 0.1 if angular else _FLAT  # raw features share a large mean, which harms no probe
        low = z is not None and z.shape[0] > 2 and row["std"] * math.sqrt(z.shape[1]) < limit
        self.low = self.low + 1 if low else 0
        if z is not None and low:
            self.flat = (
                f"collapse: the embedding's standard deviation is {row['std']:.4f} (healthy is about "
                f"{1 / math.sqrt(z.shape[1]):.3f}), so all scans are mapped to nearly one point; lower optim.lr, "
                f"{'check that the two views differ, ' if angular else ''}or choose another method"
            )
        if self.low >= 10:  # a fresh network maps all scans nearby: not yet a collapse
            self._tell("std", step, epoch, self.flat)
        if "loss" in row and "chance" in row:
            self.recent = [*self.recent[-19:], float(row["loss"])]
            if len(self.recent) == 20 and min(self.recent) > 0.98 * row["chance"] > 0:
                self._tell(
                    "chance",
                    step,
                    epoch,
                    f"no learning yet: the loss stays at its chance level {row['chance']:.3f}; raise optim.lr, "
                    f"weaken the views, or check that volumes are normalised",
                )

    def note(self, text: str) -> None:
        """Keep a sentence about the training as a whole, for the report."""
        if self.writes:
            self.messages.write({"step": 1, "epoch": 0, "level": "note", "text": text})

    def _tell(self, kind: str, step: int, epoch: int, text: str) -> None:
        if kind not in self.told:
            self.told.add(kind)
            self.messages.write({"step": step, "epoch": epoch, "level": "warning", "text": text})
            self.say(f"step {step}: {text}")


def _health(z: Tensor | None, batch: Batch) -> dict[str, float]:
    if z is None:
        return dict.fromkeys(("std", "std_healthy", "rankme", "alignment", "uniformity"), float("nan"))
    z_MD = z.detach().float().cpu().numpy()
    healthy = 1 / math.sqrt(z_MD.shape[1])
    found = {
        "std": embedding_std(z_MD),
        "std_healthy": healthy,
        "rankme": rankme(z_MD),
        "alignment": float("nan"),
    }
    scans, kinds = len(batch), batch.roles[:2]
    if len(z_MD) >= 2 * scans and len(set(kinds)) < 2:  # two views of one kind of every scan
        found["alignment"] = alignment(z_MD[:scans], z_MD[scans : 2 * scans])
    return found | {"uniformity": uniformity(z_MD[:scans])}


def _unit_rows(z: Tensor) -> bool:
    """Whether all rows have length 1, as embeddings have that are compared by their angle."""
    return bool(((z.detach().float().norm(dim=1) - 1).abs() < 0.01).all())


def _used_dimensions(features_NE: np.ndarray) -> float:
    """RankMe about the mean: a mean that all scans share, as behind every ReLU, is no collapse; 1 for equal rows."""
    if embedding_std(features_NE) * math.sqrt(features_NE.shape[1]) < _FLAT:
        return 1.0
    return rankme(features_NE - features_NE.mean(axis=0))


def tensorboard_writer() -> Any:
    """The class that writes for TensorBoard; UserError where the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "trainer.tensorboard=true needs tensorboard; run `pip install 'medssl[tracking]'` or set it to false"
        ) from None
    return SummaryWriter
