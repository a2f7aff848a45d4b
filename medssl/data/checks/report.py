"""The check of a cohort before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.data.checks.columns import check_columns
from medssl.data.checks.confounding import association, confounding
from medssl.data.checks.files import FileFacts, duplicates, oddities, survey
from medssl.data.checks.table import ROUNDING, Finding, check_table
from medssl.data.manifest.columns import chosen_columns
from medssl.data.volumes.reference import parse
from medssl.errors import UserError
from medssl.tables.ages import possible

if TYPE_CHECKING:
    from medssl.data.manifest.cohort import Cohort

__all__ = ["CheckReport", "Finding", "check"]

LEVELS = ("error", "warning", "info")
SAMPLE = 500


@dataclass(frozen=True)
class CheckReport:
    """What a check found. findings: worst first. summary: counts and usual values, ready for JSON."""

    findings: list[Finding]
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would break a training."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values: {"ok", "summary", "findings": [{level, code, file, row, text, count}]}."""
        return {
            "ok": self.ok,
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check(
    cohort: Cohort,
    sample: int = SAMPLE,
    progress: bool = True,
    workers: int | None = None,
    columns: Sequence[str] | None = None,
) -> CheckReport:
    """Look for what would break or bias a training on this cohort.

    Reads the header of every image and the voxels of ``sample`` images spread evenly over the manifest (all
    where there are fewer; 0 reads none), by several processes for more than 50 images (``workers``, default
    all cores). Errors: missing-file, unreadable, truncated, empty, constant, not-finite, 2d, 4d,
    subject-across-splits, copy-across-splits, no-train. Warnings and notes: orientation, spacing, shape, sform-qform,
    units, absurd-voxels, duplicate, ages, sexes, sites, age-site, diagnosis-site, sex-site,
    formula, few-subjects. columns: patterns of columns that are
    features, which are checked as ``check_columns`` says. Raises UserError for a negative sample, ManifestError for
    wrong patterns.
    """
    if sample < 0:
        raise UserError(f"sample must be 0 or more, not {sample}")
    owners = _owners(cohort)
    paths = list(owners)
    facts = survey(paths, sample, progress, workers)
    features = [] if columns is None else list(check_columns(cohort, columns))
    findings = [*_file_findings(cohort, owners, facts), *_copies(cohort, owners, facts), *features]
    findings += check_table(cohort)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    summary = _summary(cohort, facts, findings)
    if columns is not None:
        summary["features"] = len(chosen_columns(cohort, columns))
    return CheckReport(findings, summary)


def _owners(cohort: Cohort) -> dict[str, list[tuple[int, str]]]:
    """Image path -> the (row, column) pairs that name it, in the manifest's order."""
    columns = [name for name in cohort.table.columns if name == "image" or str(name).startswith("image_")]
    owners: dict[str, list[tuple[int, str]]] = {}
    for column in columns:
        for row, image in enumerate(cohort.table[column]):
            if isinstance(image, str) and image:
                owners.setdefault(str(cohort.images(row, (column,))[0]), []).append((row, column))
    return owners


def _finding(cohort: Cohort, row: int, level: str, code: str, file: str, text: str) -> Finding:
    return Finding(level, code, file, int(cohort.table["row"].iloc[row]), f"{cohort.where(row)}: {text}")


def _file_findings(
    cohort: Cohort, owners: dict[str, list[tuple[int, str]]], facts: list[FileFacts]
) -> Iterator[Finding]:
    """Unusable files as errors, headers that differ as warnings; headers are compared within a column."""
    for fact in facts:
        if fact.code:
            for row, _ in owners[fact.path]:
                yield _finding(cohort, row, "error", fact.code, fact.path, f"{_name(fact)} {fact.text}")
    for column in dict.fromkeys(column for uses in owners.values() for _, column in uses):
        inside = [fact for fact in facts if owners[fact.path][0][1] == column]
        for k, code, text in oddities(inside):
            fact = inside[k]
            yield _finding(cohort, owners[fact.path][0][0], "warning", code, fact.path, f"{_name(fact)}: {text}")


def _name(fact: FileFacts) -> str:
    return parse(fact.path).name.replace("\\", "/").rsplit("/", 1)[-1]


def _copies(cohort: Cohort, owners: dict[str, list[tuple[int, str]]], facts: list[FileFacts]) -> Iterator[Finding]:
    """Rows whose images are the same file or hold the same voxels; an error where they cross train and test."""
    groups = [[facts[k].path for k in group] for group in duplicates(facts)]
    grouped = {path for group in groups for path in group}
    groups += [[path] for path, uses in owners.items() if len(uses) > 1 and path not in grouped]
    table = cohort.table
    for group in groups:
        uses = sorted((row, path) for path in group for row, _ in owners[path])
        first, original = uses[0]
        for row, path in uses[1:]:
            splits = {str(table["split"].iloc[first]), str(table["split"].iloc[row])} - {""}
            leak = len(splits) > 1 and "train" in splits
            people = table["subject"].iloc[[first, row]].nunique()
            same = "is the same file as" if path == original else "holds the same voxels as"
            tail = " of another participant" if people > 1 else ""
            ages = table["age"].iloc[[first, row]].tolist()
            tail += f", with age {ages[1]:g} here and {ages[0]:g} there" if abs(ages[1] - ages[0]) > ROUNDING else ""
            tail += f", and one is in train and the other in {max(splits - {'train'})}" if leak else ""
            yield _finding(
                cohort,
                row,
                "error" if leak else "warning",
                "copy-across-splits" if leak else "duplicate",
                path,
                f"{parse(path).name} {same} {cohort.where(first)}{tail}; keep one of them",
            )


def _summary(cohort: Cohort, facts: list[FileFacts], findings: list[Finding]) -> dict[str, Any]:
    table = cohort.table
    ages = table["age"].to_numpy(dtype=float)
    ages = ages[possible(ages)]
    usable = [fact for fact in facts if fact.shape]

    def usual(values: list[Any]) -> Any:
        return Counter(values).most_common(1)[0][0] if values else None

    return {
        "manifests": [str(path) for path in cohort.paths],
        "scans": len(table),
        "subjects": int(table["subject"].nunique()),
        "sites": int(table.loc[table["site"] != "", "site"].nunique()),
        "datasets": sorted(set(table["dataset"]) - {""}),
        "splits": {str(name): int(n) for name, n in table["split"].value_counts().items() if name},
        "sexes": {str(name): int(n) for name, n in table["sex"].value_counts().items() if name},
        "age": {
            "known": len(ages),
            "min": float(ages.min()),
            "median": float(np.median(ages)),
            "max": float(ages.max()),
        }
        if len(ages)
        else {"known": 0},
        "files": len(facts),
        "files_with_voxels_read": sum(bool(fact.content) for fact in facts),
        "shape": usual([fact.shape for fact in usable]),
        "spacing": usual([tuple(round(mm, 4) for mm in fact.spacing) for fact in usable]),
        "orientation": usual([fact.orientation for fact in usable]),
        "age_site": confounding(cohort),
        "diagnosis_site": association(cohort, "diagnosis"),
        "sex_site": association(cohort, "sex"),
        "counts": {level: sum(finding.level == level for finding in findings) for level in LEVELS},
    }
