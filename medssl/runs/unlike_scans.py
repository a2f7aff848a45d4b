"""A cohort beside what the card of an encoder says of its training scans, as findings of a check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl.data.checks.report import LEVELS, CheckReport, Finding
from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.dataset import ScanDataset, TableDataset, plain_batches
from medssl.data.manifest.cohort import Cohort
from medssl.errors import VolumeError
from medssl.features.likeness import Likeness
from medssl.features.looking import LookingDataset
from medssl.features.scans import read_scans
from medssl.features.unlike import NO_LIKENESS, UNLIKE, Notice, Verdict, judge, places_of
from medssl.runs.network import Network, network_of

_NAMED = 5
_BATCH = 16


def with_encoder(report: CheckReport, cohort: Cohort, run: Path, sample: int, progress: bool = True) -> CheckReport:
    """A report with what ``unlike_findings`` adds to it. run: a run folder or an encoder file."""
    added = unlike_findings(cohort, network_of(run, False), run, sample, progress)
    findings = sorted([*report.findings, *added], key=lambda finding: LEVELS.index(finding.level))
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    return replace(report, findings=findings, summary={**report.summary, "counts": counts})


def unlike_findings(cohort: Cohort, network: Network, run: Path, sample: int, progress: bool = True) -> list[Finding]:
    """One finding for every kind by which scans look unlike the training scans of an encoder.

    sample: compare so many scans, evenly spread. They are prepared as the encoder needs them, into its cache, where
    ``embed`` finds them again. Scans that cannot be read are left to the other findings.
    """
    if network.likeness is None:
        return [Finding("info", UNLIKE, str(run), None, f"{run}: {NO_LIKENESS}")]
    rows = cohort.rows()
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(sample, len(rows))).round().astype(int))]
    if not len(rows):
        return []
    part = cohort.subset(rows)
    if network.columns is not None:
        dataset: ScanDataset = TableDataset(network.columns.matrix(part), {}, None, network.clean)
    else:
        cache = VolumeCache(network.cache, dtype=network.cache_dtype)
        try:
            dataset, failed = read_scans(
                part, network.images, cache, network.preprocessing, network.clean, progress, skip=True
            )
        except VolumeError:  # none can be read
            return []
        part = part.subset([k for k in range(len(part.table)) if k not in failed])
    verdict = _judged(network, network.likeness, dataset, part)
    return [_finding(part, notice) for notice in verdict.notices]


def _judged(network: Network, likeness: Likeness, dataset: ScanDataset, cohort: Cohort) -> Verdict:
    """All scans of a data set beside the training scans, their features included."""
    looks: list[Any] = []
    far: list[Any] = []
    every = np.arange(len(dataset))
    batches = [every[i : i + _BATCH] for i in range(0, len(every), _BATCH)]
    with torch.no_grad(), plain_batches(LookingDataset(dataset), batches) as items:
        for item in items:
            looks.append(item["meta"]["look"].numpy())
            far.append(likeness.far(network.encoder(item["views"][0]).pooled.float().numpy()))
    return judge(likeness, np.concatenate(looks), np.concatenate(far), cohort.where, places_of(cohort))


def _finding(cohort: Cohort, notice: Notice) -> Finding:
    """A finding of its own for every kind, so that what is counted beside it is what its sentence counts."""
    rows = notice.rows
    first = int(rows[0])
    named = ", ".join(cohort.where(int(row)) for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    file = str(cohort.table["image"].iloc[first]) if "image" in cohort.table else ""
    line = int(cohort.table["row"].iloc[first])
    level = "info" if notice.harmless else "warning"
    return Finding(level, f"{UNLIKE}-{notice.kind}", file, line, f"{notice.text}: {named}{more}", len(rows))
