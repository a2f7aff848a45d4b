"""What was fitted on which scans, checked where it can be, and where everything comes from."""

from __future__ import annotations

import shlex
from typing import Any

from medssl.errors import count
from medssl.report.cohort import Group, groups
from medssl.report.read import RunFiles
from medssl.report.words import Verdict, duration, listing


def statement(files: RunFiles) -> list[Verdict]:
    """The leakage statement: sentences, the checked ones marked good or bad."""
    training = files.facts.get("training")
    training = training if isinstance(training, dict) else {}
    scans = training.get("scans")
    said = []
    if isinstance(scans, int):
        whole = training.get("rows_in_manifests")
        of = f" of the {whole} rows in the manifests" if isinstance(whole, int) and whole != scans else ""
        rule = "the rows whose split is train" if of else "all rows"
        said.append(
            Verdict(
                "open",
                f"The encoder was trained on {count(scans, 'scan')}{of}: {rule}. No other row was "
                "read in training; the probes run during training hold out a part of these scans.",
            )
        )
    said += _fits(files) + _same_encoder(files)
    found = groups(files)
    tests = {k: g for k, g in found.items() if k != "train"}
    if "train" in found and tests:
        said += _people(found["train"], tests)
        said += _sites(found["train"], tests.get("external_test"))
    return said


def _fits(files: RunFiles) -> list[Verdict]:
    if files.scores is None:
        return []
    n = files.scores.n
    fitted = f"the {count(n['train'], 'training scan')}" if isinstance(n.get("train"), int) else "the training scans"
    parts = [
        count(n[k], f"{name} scan")
        for k, name in (("internal_test", "internal test"), ("external_test", "external test"))
        if isinstance(n.get(k), int)
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
    hashes = files.facts.get("hashes")
    mine = hashes.get("encoder") if isinstance(hashes, dict) else None
    scored = files.scores.provenance.get("encoder") if files.scores else None
    if not mine or not scored:
        return []
    if mine != scored:
        return [
            Verdict(
                "bad",
                f"The scores were made from another encoder ({str(scored)[:12]}) than this run's "
                f"({str(mine)[:12]}): run `medssl score {files.name}` again.",
            )
        ]
    return [Verdict("good", "Checked: the scores were made from the encoder of this run (same hash).")]


def _people(train: Group, tests: dict[str, Group]) -> list[Verdict]:
    """Is anybody on both sides? Compared by dataset and participant_id."""
    mine = _ids(train)
    theirs = {i for g in tests.values() for i in _ids(g, bool(train.frame["dataset"].eq("").all()))}
    if not mine or not theirs:
        return []
    if not any(dataset for dataset, _ in theirs):
        mine = {("", person) for _, person in mine}
    both = sorted(person for _, person in mine & theirs)
    number = sum(len(g.frame) for g in tests.values())
    if both:
        return [
            Verdict(
                "bad",
                f"{count(len(both), 'person is', 'people are')} in training and in a test split "
                f"({', '.join(both[:5])}{', …' if len(both) > 5 else ''}): the test scores are too good. "
                "Check the manifest with `medssl cohort check`.",
            )
        ]
    return [
        Verdict(
            "good",
            f"Checked: nobody among the {count(number, 'test scan')} is among the training scans (by participant_id).",
        )
    ]


def _ids(group: Group, bare: bool = False) -> set[tuple[str, str]]:
    pairs = group.frame[["dataset", "participant_id"]].itertuples(index=False)
    return {("" if bare else str(d), str(p)) for d, p in pairs if p}


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
                f"{count(len(both), 'external site is', 'external sites are')} also in training "
                f"({', '.join(both[:5])}): the external score is not a score on unseen sites.",
            )
        ]
    return [Verdict("good", f"Checked: none of the {count(len(theirs), 'external site')} occurs in training.")]


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
    name = shlex.quote(files.name)
    commands = [
        f"medssl pretrain {name}/recipe.yaml output=again     # the same training in a new folder",
        f"medssl score {name}                 # embeds all scans of the manifests, then scores",
        f"medssl report {name}                # writes this page",
    ]
    if state and state != "finished":
        commands.insert(0, f"medssl pretrain --resume {name}     # finish this run")
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
