"""What a run folder knows about its study, with every path reduced to a name."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import UserError
from medssl.report.about import synthetic_scans
from medssl.report.checklists.card import read_card
from medssl.report.cohort import Group, groups
from medssl.report.commands import command
from medssl.report.ownership import require_own
from medssl.report.paths import absolute_paths, name_of, names_only
from medssl.report.read import RunFiles, Scores, read_run
from medssl.report.recipe import block, value
from medssl.report.tables import read_object

TRAIN, INTERNAL, EXTERNAL = "train", "internal_test", "external_test"
SPLITS = {TRAIN: "training", INTERNAL: "internal test", EXTERNAL: "external test"}
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
    name.
    """

    files: RunFiles
    card: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    splits: Mapping[str, Group] = field(default_factory=dict)
    sites: tuple[SiteScore, ...] = ()
    synthetic: tuple[int, int] = (0, 0)
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
        """A command on this run, see ``from_where``."""
        return command(self.files.path, self.name, verb)

    @property
    def from_where(self) -> str:
        """In which folder the commands are typed, in a sentence."""
        return self.files.from_where

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
        names = [self.plain(name_of(path)) for path in paths if path]
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
        text = names_only(text, self.places)
        kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
        return " ".join("".join(c for c in kept if c not in _BIDI).split())


def read_known(run: Path) -> Known:
    """Read a run folder for what is passed on.

    Raises UserError where it is none, or naming the file that is broken, StaleError where its scores or its encoder are
    those of another run or its scores are not what its predictions give.
    """
    files = read_run(run)
    card, parameters = read_card(run / "encoder.safetensors")
    scores = read_object(run / "scores.json", "remove it and run `medssl score` again")
    places = paths_in([files.facts, card, scores, str(run.resolve())]) + paths_in(files.recipe or "")
    found = groups(files)
    known = Known(
        files=files,
        card=card,
        parameters=parameters,
        splits=found,
        sites=tuple(_site_scores(run / "scores.json", scores.get("per_site"))),
        synthetic=synthetic_scans(files),
        places=places,
    )
    require_own(files, str(card.get("weights_sha256") or ""))
    return known


def mapping(given: Any) -> Mapping[str, Any]:
    """A JSON object, or {} for anything else."""
    return given if isinstance(given, dict) else {}


def is_number(text: str) -> bool:
    """Whether a value of the recipe is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def paths_in(record: Any) -> tuple[str, ...]:
    """Absolute paths that stand as whole values in a record, or behind a key in the text of a recipe."""
    if isinstance(record, str):
        record = [line.rpartition(": ")[2].strip("- '\"") for line in record.splitlines()]
    return absolute_paths(record)


def _site_scores(path: Path, given: Any) -> Iterable[SiteScore]:
    if given is None:
        return
    if not isinstance(given, list):
        raise UserError(f"{path}: per_site must be a list, not {given!r:.60}; run `medssl score` again")
    for entry in given:
        row = mapping(entry)
        numbers = [row.get("n"), row.get("mae"), row.get("bias")]
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in numbers):
            raise UserError(f"{path}: per_site holds {entry!r:.60}, which lacks n, mae or bias; "
                            "run `medssl score` again")  # fmt: skip
        yield SiteScore(str(row.get("site", "")), str(row.get("split", "")), int(row["n"]),
                        float(row["mae"]), float(row["bias"]))  # fmt: skip
