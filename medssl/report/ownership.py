"""Whether scores are those of this run: made from its encoder, and the ones that its predictions give."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from medssl.errors import StaleError
from medssl.evaluation.metrics.challenge import challenge
from medssl.report.read import Row, RunFiles
from medssl.report.words import row_name, shown

_SPLITS = {"internal_test": ("internal", "known sites"), "external_test": ("external", "unseen sites")}
_NAMES = {"mae": "a mean absolute error", "rmse": "a root mean squared error", "r2": "an R²"}
_SAME = 0.005
"""Numbers that differ by less are one: predictions.csv may have been rounded by a spreadsheet."""


def own_digest(files: RunFiles) -> str:
    """Digest of the encoder that the run trained, as run.json has it; "" where it is not recorded."""
    hashes = files.facts.get("hashes")
    return str(hashes.get("encoder") or "") if isinstance(hashes, dict) else ""


def other_encoder(files: RunFiles, mine: str = "") -> str:
    """Why the scores cannot be those of this run's encoder, in a sentence; "" where they are or it cannot be told.

    mine: digest of the encoder, by default the one that run.json has.
    """
    mine = mine or own_digest(files)
    if files.scores is None or not mine:
        return ""
    scored = str(files.scores.provenance.get("encoder") or "")
    if not scored:
        return f"scores.json does not say from which encoder the scores were made; this run's is {mine[:12]}."
    if scored != mine:
        return f"The scores were made from another encoder ({scored[:12]}) than this run's ({mine[:12]})."
    return ""


def differing(files: RunFiles) -> list[str]:
    """Where scores.json holds another number than predictions.csv gives, a sentence part each."""
    if files.scores is None:
        return []
    rows = {row.key: row for row in (files.scores.encoder, *files.scores.references) if row.missing is None}
    found = []
    for key, row in rows.items():
        for metric, label, value in _recomputed(files, key):
            stated = row.values.get(metric)
            if stated is not None and abs(stated - value) > _SAME:
                found.append(
                    f"{row_name(row.key)}: predictions.csv gives {label} of {_both(metric, value, stated)}, "
                    f"scores.json says {_both(metric, stated, value)}"
                )
    return found + [text for row in rows.values() for text in _challenge(row)]


def _recomputed(files: RunFiles, key: str) -> Iterator[tuple[str, str, float]]:
    """Metric, its name, and what predictions.csv gives for a row of the scorecard."""
    if files.predictions is None or files.guesses is None:
        return
    table = files.predictions[files.predictions["features"] == key]
    for split, (short, place) in _SPLITS.items():
        mine = table[table["split"] == split]
        if mine.empty:
            continue
        error, age = (mine["predicted"] - mine["age"]).to_numpy(float), mine["age"].to_numpy(float)
        values = {"mae": float(np.abs(error).mean()), "rmse": math.sqrt(float((error**2).mean()))}
        if spread := float(((age - age.mean()) ** 2).sum()):
            values["r2"] = 1 - float((error**2).sum()) / spread
        for name, value in values.items():
            yield f"{name}_{short}", f"{_NAMES[name]} on {place}", value
    guesses = files.guesses[files.guesses["features"] == key]
    if len(guesses):
        right = guesses["site"] == guesses["site_predicted"]
        yield "site_bacc", "a balanced accuracy of the site", float(right.groupby(guesses["site"]).mean().mean())


def _challenge(row: Row) -> list[str]:
    """Whether the challenge score follows from the two scores that it is made of."""
    stated, bacc, error = (row.values.get(name) for name in ("challenge", "site_bacc", "mae_external"))
    if stated is None or bacc is None or error is None or bacc < 0 or error < 0:
        return []
    value = challenge(bacc, error)
    if abs(value - stated) <= _SAME:
        return []
    return [f"{row_name(row.key)}: site accuracy and age error give a challenge score of {value:.2f}, but scores.json "
            f"says {stated:.2f}"]  # fmt: skip


def _both(metric: str, value: float, other: float) -> str:
    """A value as the page shows it, with more digits where it would look like the other one."""
    text = shown(metric, value)
    return text if text != shown(metric, other) else f"{value:.3f}"


def require_own(files: RunFiles, of_card: str) -> None:
    """Refuse scores of another run or other numbers than those of the predictions.

    of_card: digest of the encoder file in the run folder, "" where there is none. Raises StaleError, one sentence.
    """
    mine = own_digest(files)
    if mine and of_card and mine != of_card:
        raise StaleError(
            f"{files.path / 'encoder.safetensors'} is not the encoder that {files.path} trained; put it back, or train "
            "again"
        )
    if files.scores is None:
        return
    path = files.path / "scores.json"
    if not mine and not of_card:
        raise StaleError(f"{path} cannot be told to be of this run, which names no encoder; remove it, or restore "
                         "run.json and encoder.safetensors")  # fmt: skip
    why = other_encoder(files, mine or of_card)
    if why:
        raise StaleError(f"{path}: {why[:1].lower()}{why[1:-1]}; run `medssl score {files.path}` again")
    wrong = differing(files)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise StaleError(f"{path} was changed or was not made together with predictions.csv: {wrong[0]}{more}; run "
                         f"`medssl score {files.path}` again")  # fmt: skip
