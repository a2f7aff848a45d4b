"""Which scans were used for what, checked where it can be, and where everything comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medssl.data.manifest.copies import copies
from medssl.errors import count
from medssl.report.cohort import Group, groups, how_many_people, people
from medssl.report.ownership import other_encoder, own_digest
from medssl.report.read import RunFiles
from medssl.report.verdict import Verdict
from medssl.report.words import duration, listing, spoken
from medssl.tables.people import COPY, families_of, groups_of, torn

_LEAK = "say nothing about new people"
"""Words of a note of the scoring on test scans that were trained on."""


def statement(files: RunFiles) -> list[Verdict]:
    """The leakage statement: sentences, the checked ones marked good or bad."""
    training = files.facts.get("training")
    training = training if isinstance(training, dict) else {}
    scans = training.get("scans")
    found: list[Verdict] = []
    if isinstance(scans, int):
        whole = training.get("rows_in_manifests")
        of = f" of the {whole} rows in the manifests" if isinstance(whole, int) and whole != scans else ""
        rule = "the rows whose split is train" if of else "all rows"
        found.append(
            Verdict(
                "open",
                f"The encoder was trained on {count(scans, 'scan')}{of}: {rule}. No other row was "
                "read in training; the probes run during training hold out a part of these scans.",
            )
        )
    found += _fits(files) + _same_encoder(files)
    parts = groups(files)
    tests = {k: g for k, g in parts.items() if k != "train"}
    if "train" in parts and tests:
        found += _people(parts["train"], tests)
        found += _families(parts["train"], tests)
        found += _sites(parts["train"], tests.get("external_test"))
        found += _images(files, parts["train"], tests)
    return found


def _images(files: RunFiles, train: Group, tests: dict[str, Group]) -> list[Verdict]:
    """Is an image on both sides? By the digests of the features table, and by what the scoring said."""
    notes = [note for note in files.scores.notes if _LEAK in note] if files.scores else []
    if notes:
        return [Verdict("bad", spoken(note)) for note in notes]
    test = pd.concat([g.frame for g in tests.values()], ignore_index=True)
    if not all(COPY in f.columns and (f[COPY] != "").all() for f in (train.frame, test)):
        text = "These checks compare what the tables say. Whether one image stands under two names is checked by "
        return [Verdict("open", f"{text}`medssl cohort check`.")]
    pairs = copies(test[COPY].tolist(), train.frame[COPY].tolist())
    if pairs:
        first = test["participant_id"].iloc[pairs[0][0]] or "a scan without an id"
        text = (
            f"{count(len(pairs), 'test scan is', 'test scans are')} the same image as a training scan (first: {first})"
        )
        return [Verdict("bad", f"{text}: the test scores are too good.")]
    return [Verdict("good", "Checked: no test scan is the same image as a training scan, whatever its name.")]


def _fits(files: RunFiles) -> list[Verdict]:
    if files.scores is None:
        return []
    n = files.scores.n
    fitted = f"the {count(n['train'], 'training scan')}" if isinstance(n.get("train"), int) else "the training scans"
    parts = [
        f"{count(n[k], 'scan')} from {name}"
        for k, name in (("internal_test", "known sites"), ("external_test", "unseen sites"))
        if isinstance(n.get(k), int) and n[k]
    ]
    tested = f" They were scored on {listing(parts)}, which were used for nothing else." if parts else ""
    return [
        Verdict(
            "open",
            f"The age and site probes, with their tuning by cross-validation, were fitted on {fitted} "
            f"only.{tested} Predicted ages are shown as predicted: no correction for age bias.",
        )
    ]


def _same_encoder(files: RunFiles) -> list[Verdict]:
    if files.scores is None:
        return []
    why = other_encoder(files)
    if why:
        return [Verdict("bad", f"{why} Make them again with `{files.command('score')}`.")]
    if not own_digest(files):
        text = "run.json does not name the encoder of this run, so whether the scores are its own cannot be checked."
        return [Verdict("open", text)]
    return [Verdict("good", "Checked: the scores were made from the encoder of this run (same hash).")]


def _people(train: Group, tests: dict[str, Group]) -> list[Verdict]:
    """Is anybody on both sides? Compared by dataset and participant_id, and by subject where all tables have it."""
    mine = _ids(train)
    theirs = {i for g in tests.values() for i in _ids(g, bool(train.frame["dataset"].eq("").all()))}
    if not mine or not theirs:
        return []
    by = "data set and participant_id"
    if not any(dataset for dataset, _ in theirs) or not any(dataset for dataset, _ in mine):
        mine, theirs, by = {("", p) for _, p in mine}, {("", p) for _, p in theirs}, "participant_id"
    both = {person for _, person in mine & theirs}
    frames = [train.frame, *(g.frame for g in tests.values())]
    if all((f["subject"] != "").all() for f in frames):
        subjects = {s for f in frames[1:] for s in f["subject"]} & set(train.frame["subject"])
        shared = pd.concat(frames[1:])
        both |= set(shared["participant_id"][shared["subject"].isin(subjects)])
        by = f"subject, {by}"
    names = sorted(both)
    if names:
        return [
            Verdict(
                "bad",
                f"{count(len(names), 'person is', 'people are')} in training and in a test split "
                f"({_first(names)}): the test scores are too good. Check the manifest with `medssl cohort check`.",
            )
        ]
    return [
        Verdict(
            "good",
            f"Checked: nobody is on both sides. {_sizes(train, tests)} were compared by {by}.",
        )
    ]


def _sizes(train: Group, tests: dict[str, Group]) -> str:
    """ "60 people of the training and 20 people of the tests"; scans where people have no names."""
    whole = pd.concat([g.frame for g in tests.values()])
    sizes = [how_many_people(train.frame), how_many_people(whole)]
    mine, theirs = (count(n, "person", "people") if n is not None else "the scans" for n in sizes)
    return f"{mine} in training and {theirs} in the tests".capitalize()


def _families(train: Group, tests: dict[str, Group]) -> list[Verdict]:
    """Is a family on both sides? By the column family, as the split keeps it."""
    frame = pd.concat([train.frame, *(g.frame for g in tests.values())], ignore_index=True)
    families = families_of(frame)
    if not (families != "").any():
        return [Verdict("open", "No column names families, so relatives on both sides would not be noticed here.")]
    inside = np.arange(len(frame)) < len(train.frame)
    labels = groups_of(frame.assign(subject=people(frame)))
    broken = torn(labels, families, inside, ~inside)
    if broken is not None:
        of = f"family {broken.family}" if broken.family else "one group of relatives"
        return [
            Verdict(
                "bad",
                f"Relatives are on both sides: {of} is in training and in a test split "
                f"({count(broken.rows, 'test scan')} in all): the test scores may be too good. "
                "Split again with `medssl cohort split`.",
            )
        ]
    number = len(set(families) - {""})
    text = "the only family is on one side" if number == 1 else f"none of the {number} families is on both sides"
    return [Verdict("good", f"Checked: {text}.")]


def _ids(group: Group, bare: bool = False) -> set[tuple[str, str]]:
    pairs = group.frame[["dataset", "participant_id"]].itertuples(index=False)
    return {("" if bare else str(d), str(p)) for d, p in pairs if p}


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"


def _sites(train: Group, external: Group | None) -> list[Verdict]:
    if external is None:
        return []
    mine = {s for s in train.frame["site"] if s}
    theirs = {s for s in external.frame["site"] if s}
    if not mine or not theirs:
        return []
    both = sorted(mine & theirs)
    if both:
        return [
            Verdict(
                "bad",
                f"{count(len(both), 'site that counts as unseen is', 'sites that count as unseen are')} also in "
                f"training ({_first(both)}): the score on unseen sites is not one.",
            )
        ]
    tested = f"the unseen site {next(iter(theirs))} does not occur" if len(theirs) == 1 else (
        f"none of the {len(theirs)} unseen sites occurs"
    )  # fmt: skip
    return [Verdict("good", f"Checked: {tested} in training.")]


def origin(files: RunFiles) -> dict[str, Any]:
    """Versions, hardware, hashes, times and the commands that make this again."""
    facts = files.facts
    state = str(facts.get("state", ""))
    times = [
        ("created", facts.get("created")),
        ("finished", facts.get("finished")),
        ("duration", duration(facts.get("created"), facts.get("finished"))),
        ("state", state),
        ("seed", facts.get("seed")),
        ("started by", facts.get("command")),
    ]
    scoring = {**files.scores.protocol, **files.scores.provenance} if files.scores else {}
    commands = [
        f"{files.command('pretrain')}/recipe.yaml output=again     # the same training in a new folder",
        f"{files.command('score')}                 # embeds all scans of the manifests, then scores",
        f"{files.command('report')}                # writes this page",
    ]
    if state and state != "finished":
        commands.insert(0, f"{files.command('pretrain --resume')}     # finish this run")
    return {
        "tables": [
            ("Run", _pairs(dict(times))),
            ("Hashes (sha256)", _pairs(facts.get("hashes"))),
            ("Versions", _pairs(facts.get("versions") or {"medssl": facts.get("medssl_version")})),
            ("Hardware", _pairs(facts.get("hardware"))),
            ("Scoring", _pairs(scoring)),
        ],
        "commands": commands,
    }


def _pairs(given: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested JSON as (name, value) lines; what is empty is left out."""
    if not isinstance(given, dict):
        return []
    found: list[tuple[str, str]] = []
    for key, inner in given.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(inner, dict):
            found += _pairs(inner, f"{name}: ")
        elif isinstance(inner, list):
            words = [str(v.get("path", v)) if isinstance(v, dict) else str(v) for v in inner]
            found.append((name, ", ".join(words)))
        elif inner not in (None, ""):
            found.append((name, str(inner)))
    return found
