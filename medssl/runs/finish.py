"""The end of a training: the encoder with its card, sample views, the report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from medssl.encoders.base import recalibrate_
from medssl.encoders.file import save_encoder, weights_digest
from medssl.environment import now
from medssl.errors import TrainingStopped
from medssl.features.likeness import Likeness
from medssl.features.looking import likeness_of
from medssl.heads.file import save_head
from medssl.recipe.build import Assembly
from medssl.report.build import build_report
from medssl.report.figures import save_figure, scatter_map
from medssl.runs.folder import Run
from medssl.runs.references import batched
from medssl.runs.same_scans import write_digests
from medssl.runs.sample_views import write_sample_views


def finish(parts: Assembly, run: Run, page: bool) -> None:
    """Save the encoder with its card, sample views and the report."""
    if not all(bool(torch.isfinite(p).all()) for p in parts.method.parameters()):
        raise _spoilt("the weights", parts)
    rows = parts.train_rows[: max(64, 4 * parts.recipe.data.batch_size)]
    clean = (parts.dataset.clean(parts.dataset.volume(int(r)))[None] for r in rows)  # type: ignore[misc]
    encoder = parts.method.encoder.cpu().eval()
    recalibrate_(encoder, batched(clean, parts.recipe.data.batch_size))
    likeness = _likeness(parts, encoder)
    card = {
        "method": parts.recipe.method.name,
        "recipe": parts.recipe.to_dict(),
        "preprocessing": parts.preprocessing.to_dict(),
        "images": [] if parts.columns is not None else list(parts.recipe.data.images),
        "columns": None if parts.columns is None else parts.columns.to_dict(),
        "training": parts.info["training"],
        "hashes": parts.info["hashes"],
        "versions": parts.info["versions"],
        "licence": "not stated",
        **({} if likeness is None else {"likeness": likeness.to_dict()}),
    }
    save_encoder(encoder, run.encoder, card)
    projection = _save_projection(parts, run.projection)
    write_sample_views(parts, run.views)
    made = {"encoder": weights_digest(encoder)} | ({} if projection is None else {"projection": projection})
    hashes = run.read_info().get("hashes", {}) | made
    write_digests(run.folder, hashes["encoder"], parts.marks)
    run.update({"finished": now(), "state": "finished", "hashes": hashes})
    if page:
        build_report(run.folder)


def _save_projection(parts: Assembly, path: Path) -> str | None:
    """Keep the projector beside the encoder, where the method has one (``medssl embed --projection``); its hash."""
    projector = getattr(parts.method, "projector", None)
    if projector is None:
        return None
    save_head(projector.cpu(), path, normalise=parts.method.normalised)
    return weights_digest(projector)


def _spoilt(what: str, parts: Assembly) -> TrainingStopped:
    """The last step took a network too far; final_lr counts too, since the last steps are taken with it."""
    rates = parts.recipe.optim
    return TrainingStopped(
        f"{what} are NaN or Inf after the last step, so no encoder was written; train again with a lower optim.lr (it "
        f"was {rates.lr:g}, and optim.final_lr {rates.final_lr:g}) or trainer.clip=1"
    )


def _likeness(parts: Assembly, encoder: torch.nn.Module) -> Likeness | None:
    """What the training scans look like, for the card; on the device of the training."""
    device = "cuda" if torch.cuda.is_available() and parts.recipe.trainer.accelerator != "cpu" else "cpu"
    encoder.to(device)
    people = parts.cohort.table["subject"].to_numpy(dtype=object)
    batch = min(parts.recipe.data.batch_size, 32)

    def features(x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = encoder(x).pooled
        if not bool(torch.isfinite(pooled).all()):
            raise _spoilt("the features of training scans", parts)
        return pooled

    made = likeness_of(features, parts.dataset, parts.train_rows, people, device, batch)
    encoder.cpu()
    return made


def draw_map(frame: pd.DataFrame, title: str, path: Path) -> None:
    """The map of a monitor as a figure."""
    points = frame[["x", "y"]].to_numpy(float)
    save_figure(scatter_map(points, frame["age"].to_numpy(), frame["site"], frame["sex"], title), path)
