"""The reference rows of a scorecard that need the scans: ridge on voxels (or features) and the untrained encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders import build_encoder
from medssl.encoders.base import recalibrate_
from medssl.encoders.file import weights_digest
from medssl.errors import UserError
from medssl.features.embed import embed_cohort
from medssl.features.table import FeatureTable
from medssl.features.unlike import UNLIKE
from medssl.runs.lineage import sources_of
from medssl.runs.network import Network, network_of


def reference_features(table: FeatureTable, progress: bool) -> dict[str, np.ndarray]:
    """Feature matrices of the reference rows that need the scans; {} where run or scans are gone.

    "ridge_voxels" of images; of a table "ridge_features": the features themselves as the encoder reads them,
    standardised by the training rows, empty cells filled. "untrained": the encoder before training.
    """
    source = table.provenance
    run = Path(str(source.get("run", "")))
    sources = sources_of(source)
    if not sources or "preprocessing" not in source or not all(Path(s["path"]).is_file() for s in sources):
        return {}
    cohort = Cohort.read(sources, images=not source.get("columns"))
    if cohort.digest != source.get("manifest"):
        names = ", ".join(str(path) for path in cohort.paths)
        raise UserError(f"{names} changed since the features were made; run `medssl embed` again")
    if lost := set(source.get("skipped_rows", ())):
        cohort = cohort.subset([row for row in range(len(cohort.table)) if row not in lost])
    network = network_of(run, False) if run.exists() else None
    if network is None or network.digest != source.get("encoder"):
        return {}  # another encoder stands there now, so its untrained twin is no reference
    preprocessing = Preprocessing.from_dict(source["preprocessing"])
    cache = VolumeCache(network.cache, dtype=network.cache_dtype)
    rows = cohort.rows("train")[:128]
    volumes: Iterable[np.ndarray]
    if network.columns is not None:
        name, raw = "ridge_features", network.columns.matrix(cohort)
        volumes = (raw[int(r)].reshape(1, -1, 1, 1) for r in rows)
    else:
        name, raw = "ridge_voxels", voxel_matrix(cohort, preprocessing, cache, network.images)
        volumes = (cache.load(cohort.images(int(r), network.images), preprocessing) for r in rows)
    clean = (network.clean(torch.from_numpy(np.array(v, np.float32)))[None] for v in volumes)
    plain = untrained_encoder(network, batched(clean, 32))
    parents = {name: value for name, value in source.items() if name != UNLIKE}
    beside = run / "features-untrained.csv" if run.is_dir() else run.with_name(f"{run.stem}-untrained.csv")
    untrained = embed_cohort(
        plain,
        cohort,
        preprocessing,
        beside,
        provenance=parents | {"encoder": weights_digest(plain), "features": "untrained"},
        clean=network.clean,
        images=network.images,
        columns=network.columns,
        cache=cache,
        progress=progress,
    )
    return {name: raw, "untrained": untrained.values}


def untrained_encoder(network: Network, volumes: Iterator[Tensor]) -> nn.Module:
    """The same architecture as it was before training; batch statistics, if any, come from ``volumes``."""
    torch.manual_seed(network.seed)
    spec = dict(network.encoder.spec)  # type: ignore[arg-type]
    plain = build_encoder(spec.pop("name"), **spec)
    recalibrate_(plain, volumes)
    return plain.eval()


def voxel_matrix(
    cohort: Cohort, preprocessing: Preprocessing, cache: VolumeCache, images: tuple[str, ...]
) -> np.ndarray:
    """Preprocessed voxels averaged to about 8 mm, one row per scan: the baseline that needs no network."""
    spacing = preprocessing.spacing
    matrix = []
    for row in range(len(cohort.table)):
        x = torch.from_numpy(np.array(cache.load(cohort.images(row, images), preprocessing), np.float32))[None]
        if spacing is None:
            factors = [max(1, round(side / 24)) for side in x.shape[2:]]
        else:
            factors = [max(1, round(8.0 / step)) for step in spacing]
        matrix.append(nn.functional.avg_pool3d(x, factors, ceil_mode=True)[0].flatten().numpy())
    voxels = np.stack(matrix)
    return voxels[:, voxels.std(0) > 1e-6]


def batched(items: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Concatenate tensors (1, C, D, H, W) to batches of ``size``; the last may be smaller."""
    held: list[torch.Tensor] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)
