"""Embedding against the encoder's own forward pass, and the probes of a large cohort."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from benchmarks.speed.timing import Part, paired, peak_memory, ratio
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders import build_encoder
from medssl.evaluation.metrics.classification import balanced_accuracy
from medssl.evaluation.scorecard import scorecard
from medssl.evaluation.site import fit_site
from medssl.features.embed import PART, embed_cohort
from medssl.features.table import FeatureTable

SHAPE = (64, 64, 64)
SITES, WIDTH = 60, 512


def measure(quick: bool) -> Part:
    part = Part("Embedding and probes")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _embedding(part, Path(folder), quick)
        _site_probe(part, *((250, 8) if quick else (500, 30)))
        _probes(part, 20_000 if quick else 100_000)
    finally:
        torch.set_num_threads(threads)
    return part


def _embedding(part: Part, folder: Path, quick: bool) -> None:
    scans, batch = (16, 8) if quick else (128, 16)
    rng = np.random.default_rng(0)
    for k in range(scans):
        np.save(folder / f"{k}.npy", rng.normal(size=SHAPE).astype(np.float32))
    lines = ["participant_id,image", *[f"sub-{k},{k}.npy" for k in range(scans)]]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    cohort, prep = Cohort.read(folder / "manifest.csv"), Preprocessing(mask="none")
    store = VolumeCache(folder / "cache")
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", in_channels=1, shape=SHAPE).eval()
    store.prepare(cohort.files(cohort.rows()), prep, progress=False)
    memory = torch.stack([torch.from_numpy(np.array(store.load(files, prep))) for files in cohort.files(cohort.rows())])
    kept: list[np.ndarray] = []

    def bare() -> None:
        with torch.no_grad():
            kept[:] = [encoder(memory[at : at + batch]).pooled.numpy() for at in range(0, scans, batch)]

    count = 0

    def embed() -> None:
        nonlocal count
        count += 1
        table = embed_cohort(
            encoder,
            cohort,
            prep,
            folder / f"features{count}.npz",
            provenance={"run": count},
            cache=store,
            batch=batch,
            progress=False,
        )
        assert np.allclose(table.values, np.concatenate(kept), atol=1e-4)

    times = paired({"encoder alone, tensors in memory": bare, "medssl embed, warm cache": embed}, 3 if quick else 5)
    found = ratio(times, "medssl embed, warm cache", "encoder alone, tensors in memory")
    part.ratio("embed.vs_forward", found, "embedding a cohort over the encoder's forward passes")
    for what, seconds in times.items():
        size = {"scans": scans, "voxels": "x".join(map(str, SHAPE)), "batch": batch, "scans per saved part": PART}
        part.rows.append({"embedding": what, **size, "ms per scan": 1e3 * median(seconds) / scans})


def _site_probe(part: Part, rows: int, sites: int) -> None:
    """The solver of long site probes beside the challenge's, on the same rows and folds; half as many rows test."""
    table = large_table(3 * rows * (SITES + 10) // sites // 2)
    name_N = table.meta["site"].to_numpy(str)
    here = np.flatnonzero(np.isin(name_N, np.unique(name_N)[:sites]))[: 3 * rows // 2]
    fit, new = here[:rows], here[rows:]
    seconds = {}
    for solver, large in (("SAGA, 150 passes", False), ("L-BFGS", True)):
        began = time.perf_counter()
        probe = fit_site(table.values[fit], name_N[fit], large=large)
        seconds[solver] = time.perf_counter() - began
        told = {"site_bacc": balanced_accuracy(name_N[new], probe.predict(table.values[new])), "C": probe.c}
        size = f"{len(fit)} x {WIDTH}, {sites} sites"
        part.rows.append({"site probe": size, "solver": solver, "seconds": seconds[solver], **told})
    found = seconds["SAGA, 150 passes"] / seconds["L-BFGS"]
    part.ratio("embed.saga_vs_lbfgs", found, "time of the site probe by SAGA over L-BFGS, one thread")


def _probes(part: Part, rows: int) -> None:
    gigabytes = peak_memory(score_of, rows) / 1024
    table = large_table(rows)
    began = time.perf_counter()
    scores = scorecard(table, resamples=200)
    seconds = time.perf_counter() - began
    part.ratio("embed.probe_100k_gb", gigabytes, f"GB that a scorecard of {rows:,} x {WIDTH} adds")
    part.ratio("embed.probe_100k_s", seconds, "its seconds by one thread, references and 200 resamples included")
    told = {key: scores.main[key] for key in ("mae_internal", "mae_external", "site_bacc")}
    part.rows.append({"probes": f"{rows:,} x {WIDTH}, {SITES} sites", "seconds": seconds, "GB": gigabytes, **told})
    if rows < 100_000:
        part.notes.append(f"Quick form: the probes have {rows:,} rows instead of 100,000.")


def large_table(rows: int) -> FeatureTable:
    """Features that know age and site a little; the last ten sites are external."""
    rng = np.random.default_rng(0)
    site, age = rng.integers(0, SITES + 10, rows), rng.uniform(20, 80, rows)
    values = rng.standard_normal((rows, WIDTH), dtype=np.float32)
    values[:, :64] += 0.5 * rng.standard_normal((SITES + 10, 64), dtype=np.float32)[site]
    values[:, 64:96] += ((age - 50) / 40)[:, None].astype(np.float32)
    split = np.where(site >= SITES, "external_test", np.where(rng.random(rows) < 0.1, "internal_test", "train"))
    names = [f"sub-{k:06d}" for k in range(rows)]
    meta = pd.DataFrame({"participant_id": names, "age": age, "site": [f"s{k:02d}" for k in site], "split": split})
    return FeatureTable(meta, values)


def score_of(rows: int) -> Callable[[], object]:
    """A scorecard ready to be computed, for ``peak_memory``."""
    os.environ["OMP_NUM_THREADS"] = "1"
    table = large_table(rows)
    return lambda: scorecard(table, resamples=200)
