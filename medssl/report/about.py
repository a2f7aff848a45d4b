"""What a page is about, in one line: cohort, method, encoder, date; and whether the cohort is of real people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

from medssl.data.synthetic.mark import DATASET as SYNTHETIC
from medssl.errors import count
from medssl.report.paths import name_of
from medssl.report.read import RunFiles
from medssl.report.recipe import value
from medssl.report.words import listing, stamp

NO_CLINICAL_USE = "Research software. Not for clinical use."
_MOST_NAMES = 3


def title(files: RunFiles) -> str:
    """What was done, in one line: "Encoder resnet18 trained with simclr on the cohort IXI, 3 March 2026"."""
    encoder, cohort, day = encoder_name(files), cohort_name(files), date(files)
    begin = f"Encoder {encoder}" if encoder else "Encoder"
    verb = "trained" if state(files) == "finished" else "in training"
    text = f"{begin} {verb} with {method_name(files)}"
    return text + (f" on {cohort}" if cohort else "") + (f", {day}" if day else "")


def state(files: RunFiles) -> str:
    """State of the run as run.json has it."""
    return str(files.facts.get("state", "finished"))


def method_name(files: RunFiles) -> str:
    """Name of the method in the catalogue."""
    method = files.facts.get("method") or value(files.recipe, "method", "name") or "an unknown method"
    return str(method.get("name", method) if isinstance(method, dict) else method)


def encoder_name(files: RunFiles) -> str:
    """Name of the encoder in the recipe; "" where there is no recipe."""
    return value(files.recipe, "encoder", "name")


def of_table(files: RunFiles) -> bool:
    """Whether the run was trained on a table of measures and not on images."""
    return isinstance(_training(files).get("features"), int)


def date(files: RunFiles) -> str:
    """Day on which the training ended, or else began: "3 March 2026"; "" where it is not known."""
    for key in ("finished", "created"):
        try:
            day = stamp(files.facts.get(key))
        except (ValueError, TypeError):
            continue
        return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
    return ""


_MONTHS = [datetime(2000, month, 1).strftime("%B") for month in range(1, 13)]


def cohort_name(files: RunFiles) -> str:
    """The cohort trained on, with its article: by the data sets of its scans, or else by the manifest's name."""
    datasets = _datasets(files)
    if datasets == [SYNTHETIC] or all_synthetic(files):
        return "a synthetic cohort"
    if 0 < len(datasets) <= _MOST_NAMES:
        return f"the cohort{'s' if len(datasets) > 1 else ''} {listing(datasets)}"
    if datasets:
        return f"{len(datasets)} cohorts"
    manifests = _training(files).get("manifests")
    if not isinstance(manifests, list) or not manifests:
        return ""
    paths = [str(m.get("path", m) if isinstance(m, dict) else m) for m in manifests]
    names = list(dict.fromkeys(_manifest_name(p) for p in paths))
    if len(names) > _MOST_NAMES:
        return f"{len(names)} cohorts"
    return f"the cohort{'s' if len(names) > 1 else ''} {listing(names)}"


def _manifest_name(path: str) -> str:
    """Name of a cohort by its manifest: its folder where the file is called manifest.csv like all others."""
    pure = PurePath(path.replace("\\", "/"))
    return name_of(str(pure.parent)) if pure.stem == "manifest" and pure.parent.name else pure.stem


def _training(files: RunFiles) -> Mapping[str, Any]:
    training = files.facts.get("training")
    return training if isinstance(training, dict) else {}


def _datasets(files: RunFiles) -> list[str]:
    """Names of the data sets of the training scans; [] where some scans name none."""
    recorded, scans = _training(files).get("datasets"), files.scans
    names = {str(name) for name in recorded} if isinstance(recorded, dict) else set()
    if not names and scans is not None:
        trained = scans[scans["split"] == "train"]
        names = set((trained if len(trained) else scans)["dataset"])
    return [] if "" in names else sorted(names)


def synthetic_scans(files: RunFiles) -> tuple[int, int]:
    """How many of the scans that the run knows were made by `medssl cohort synth`, and how many it knows.

    Scans are marked by their data set, which is "synthetic"; run.json also counts training scans whose manifest
    stands beside the description that the generator wrote.
    """
    training, scans = _training(files), files.scans
    recorded, trained = training.get("synthetic"), training.get("scans")
    recorded = recorded if isinstance(recorded, int) else 0
    trained = trained if isinstance(trained, int) else recorded
    if scans is None:
        return recorded, trained
    marked = int((scans["dataset"] == SYNTHETIC).sum())
    if recorded and recorded == trained and (scans["dataset"] == "").all():
        marked = len(scans)
    return max(marked, recorded), max(len(scans), trained)


def all_synthetic(files: RunFiles) -> bool:
    """Whether every scan of the run is synthetic."""
    synthetic, scans = synthetic_scans(files)
    return 0 < scans == synthetic


def synthetic_notice(files: RunFiles) -> str:
    """The banner of a synthetic cohort; "" where no scan is synthetic."""
    synthetic, scans = synthetic_scans(files)
    if not synthetic:
        return ""
    if synthetic < scans:
        which = "is synthetic: it was" if synthetic == 1 else "are synthetic: they were"
        return (
            f"{synthetic} of the {count(scans, 'scan')} of this run {which} computed by medssl, and no real person is "
            "shown there. A score over synthetic scans says nothing about patients."
        )
    which = "The only scan" if scans == 1 else f"All {count(scans, 'scan')}"
    return (
        f"{which} of this run {'was' if scans == 1 else 'were'} computed by medssl, and no real person is shown. "
        "People, women and men on this page are simulated, and no score here says anything about patients."
    )
