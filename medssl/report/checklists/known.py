"""What a run folder knows about its study, with every path reduced to a name."""

from __future__ import annotations

import json
import math
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import UserError
from medssl.report.checklists.card import read_card
from medssl.report.cohort import Group, groups
from medssl.report.read import RunFiles, Scores, read_run
from medssl.report.recipe import block, value
from medssl.report.tables import read_object

TRAIN, INTERNAL, EXTERNAL = "train", "internal_test", "external_test"
SPLITS = {TRAIN: "training", INTERNAL: "internal test", EXTERNAL: "external test"}
_SYNTHETIC = "synthetic"
"""What ``medssl cohort synth`` writes into the column dataset."""
_PATH = re.compile(r"(?<![\w.:/<])(?:file://)?(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s'\"`,;:()\[\]{}<>|]+")
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]Users)[\\/][^\\/]+[\\/]?|/root/?")
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class SiteScore:
    """Age errors of one test site in years; bias is the mean of predicted minus true."""

    site: str
    split: str
    n: int
    mae: float
    bias: float


@dataclass(frozen=True)
class Known:
    """What the run knows; every part may be empty.

    card: of the encoder file. parameters: number of its trainable numbers. splits: split -> its scans. sites: age
    errors per test site. synthetic: (scans that were generated, scans that are listed). places: paths that the records
    name, longest first.
    """

    files: RunFiles
    card: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    splits: Mapping[str, Group] = field(default_factory=dict)
    sites: tuple[SiteScore, ...] = ()
    synthetic: tuple[int, int] | None = None
    places: tuple[str, ...] = ()

    @property
    def scores(self) -> Scores | None:
        """The scorecard, None before ``medssl score``."""
        return self.files.scores

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.plain(self.files.name)

    @property
    def training(self) -> Mapping[str, Any]:
        """What run.json says of the training scans."""
        return mapping(self.files.facts.get("training"))

    @property
    def method(self) -> str:
        """Name of the method, "" where it is not recorded."""
        method = self.files.facts.get("method") or self.setting("method", "name")
        return self.plain(str(mapping(method).get("name", method) or ""))

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.files.facts.get("state") == "finished"

    @property
    def harmonised(self) -> str:
        """How the features were harmonised over sites before they were scored; "" where they were not."""
        how = self.scores.protocol.get("harmonize") if self.scores else None
        return "" if how in (None, "none") else self.plain(str(how))

    def command(self, verb: str) -> str:
        """A command on this run, to be typed beside its folder."""
        return f"medssl {verb} {shlex.quote(self.name)}"

    def setting(self, *keys: str) -> str:
        """A single value of the recipe such as ("trainer", "epochs"); "" where it is absent or null."""
        found = value(self.files.recipe, *keys)
        return "" if found in ("null", "~", "{}", "[]") else self.plain(found)

    def several(self, *keys: str) -> list[str]:
        """A list of plain values of the recipe such as the voxel size; [] where it is absent."""
        inside = self.files.recipe or ""
        for key in keys:
            inside = block(inside, key)
        inside = inside.strip()
        if inside.startswith("["):
            return [self.plain(part.strip(" '\"")) for part in inside.strip("[]").split(",") if part.strip()]
        items = [re.fullmatch(r"- ([^:]+)", line) for line in inside.splitlines()]
        return [self.plain(item[1].strip("'\" ")) for item in items if item] if all(items) else []

    def manifests(self) -> list[str]:
        """File names of the manifests, without their folders."""
        given = self.training.get("manifests")
        listed = given if isinstance(given, list) else []
        paths = [str(mapping(m).get("path", m)) for m in listed] or [self.setting("data", "manifest")]
        names = [self.plain(_last(path)) for path in paths if path]
        return [f"{n} ({names.count(n)} files of this name)" if names.count(n) > 1 else n for n in dict.fromkeys(names)]

    def nameless(self, text: str) -> str:
        """``plain`` text in which no person's id stands behind a row or in parentheses."""
        text = re.sub(r"(\brow \d+) \([^()]*\)", r"\1", self.plain(text))
        return re.sub(r" \(([^()]+)\)", lambda found: "" if self._are_ids(found[1]) else found[0], text)

    def _are_ids(self, listed: str) -> bool:
        ids = {str(person) for group in self.splits.values() for person in group.frame["participant_id"]}
        return all(word.strip(" …") in ids for word in listed.split(",") if word.strip(" …"))

    def plain(self, text: str) -> str:
        """Text on one line without control characters, and without a folder: of a path only its last name is left."""
        for place in self.places:
            text = re.sub(rf"(?<![\w.~-]){re.escape(place)}[\\/]", "", text)
            text = re.sub(rf"(?<![\w.~-]){re.escape(place)}(?![\w-])", lambda found: _last(found[0]), text)
        text = _PATH.sub(lambda found: _last(found[0]), text)
        kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
        return " ".join("".join(c for c in kept if c not in _BIDI).split())


def read_known(run: Path) -> Known:
    """Read a run folder; UserError where it is none, or naming the file that is broken."""
    files = read_run(run)
    card, parameters = read_card(run / "encoder.safetensors")
    scores = read_object(run / "scores.json", "remove it and run `medssl score` again")
    named = {str(run.resolve()), *paths_in([files.facts, card, scores, files.recipe])}
    folders = {re.sub(r"(?<=.)[\\/][^\\/]*$", "", path) for path in named}
    places = sorted(named | folders, key=len, reverse=True)
    found = groups(files)
    return Known(
        files=files,
        card=card,
        parameters=parameters,
        splits=found,
        sites=tuple(_site_scores(run / "scores.json", scores.get("per_site"))),
        synthetic=_generated(files, found),
        places=tuple(places),
    )


def mapping(given: Any) -> Mapping[str, Any]:
    """A JSON object, or {} for anything else."""
    return given if isinstance(given, dict) else {}


def is_number(text: str) -> bool:
    """Whether a value of the recipe is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _last(path: str) -> str:
    """The last name of a path; a home folder, which is called after its user, is "~"."""
    if _HOME.fullmatch(path):
        return "~"
    parts = [part for part in re.split(r"[\\/]", path) if part]
    return parts[-1] if parts else ""


def paths_in(record: Any) -> Iterable[str]:
    """Absolute paths that stand as whole values in a record, blanks and all."""
    if isinstance(record, Mapping):
        for inner in record.values():
            yield from paths_in(inner)
    elif isinstance(record, list):
        for inner in record:
            yield from paths_in(inner)
    elif isinstance(record, str):
        for line in record.splitlines():
            text = line.rpartition(": ")[2].strip().lstrip("- ").strip("'\"")
            if re.match(r"/[^/]|~/|[A-Za-z]:[\\/]", text):
                yield text


def _site_scores(path: Path, given: Any) -> Iterable[SiteScore]:
    if given is None:
        return
    if not isinstance(given, list):
        raise UserError(f"{path}: per_site must be a list, not {given!r:.60}; run `medssl score` again")
    for entry in given:
        row = mapping(entry)
        numbers = [row.get("n"), row.get("mae"), row.get("bias")]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers):
            raise UserError(f"{path}: per_site holds {entry!r:.60}, which lacks n, mae or bias; "
                            "run `medssl score` again")  # fmt: skip
        yield SiteScore(str(row.get("site", "")), str(row.get("split", "")), int(row["n"]),
                        float(row["mae"]), float(row["bias"]))  # fmt: skip


def _generated(files: RunFiles, found: Mapping[str, Group]) -> tuple[int, int] | None:
    """How many of the listed scans were made by ``medssl cohort synth``; None where none is known to be."""
    frames = [group.frame for group in found.values()]
    total = sum(len(frame) for frame in frames)
    made = sum(int((frame["dataset"] == _SYNTHETIC).sum()) for frame in frames)
    if made:
        return made, total
    manifests = mapping(files.facts.get("training")).get("manifests")
    listed = [Path(str(mapping(m).get("path", m))) for m in manifests] if isinstance(manifests, list) else []
    scans = mapping(files.facts.get("training")).get("rows_in_manifests")
    if listed and all(_is_generated(path) for path in listed):
        return (scans, scans) if isinstance(scans, int) else (1, 1)
    return None


def _is_generated(manifest: Path) -> bool:
    """Whether the description that ``medssl cohort synth`` writes stands beside a manifest."""
    try:
        text = (manifest.parent / "dataset_description.json").read_text(encoding="utf-8")[:10_000]
        return bool(mapping(json.loads(text)).get("Name") == "medssl synthetic cohort")
    except (OSError, ValueError, RecursionError):
        return False
