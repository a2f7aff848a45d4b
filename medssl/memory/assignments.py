"""Cluster labels of the whole cohort, and the clustering that makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.errors import UserError
from medssl.memory.bank import last_occurrences


class Assignments(nn.Module):
    """A cluster label per row of the manifest.

    Buffers: ``labels`` (R,) int64, -1 while there is none; ``counts`` (K,) rows per cluster; ``updates``.
    """

    labels: Tensor
    counts: Tensor
    updates: Tensor

    def __init__(self, rows: int, clusters: int) -> None:
        super().__init__()
        if rows < 1 or clusters < 1:
            raise UserError(f"{rows} rows in {clusters} clusters cannot be; both must be at least 1")
        self.register_buffer("labels", torch.full((rows,), -1))
        self.register_buffer("counts", torch.zeros(clusters, dtype=torch.int64))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def set(self, index_N: Tensor, label_N: Tensor) -> None:
        """Give rows ``index_N`` the labels ``label_N`` in 0..K-1, or -1 for none; the last of a double counts."""
        if len(label_N) and (int(label_N.max()) >= len(self.counts) or int(label_N.min()) < -1):
            raise UserError(
                f"labels must lie in -1..{len(self.counts) - 1}, got {int(label_N.min())} to {int(label_N.max())}"
            )
        index, position = last_occurrences(index_N)
        self.labels.index_copy_(0, index, label_N[position].to(self.labels))
        self.counts.copy_(torch.bincount(self.labels[self.labels >= 0], minlength=len(self.counts)))
        self.updates += 1

    def sampling_weights(self) -> Tensor:
        """(R,) weights that draw every non-empty cluster equally often: 1 / size; 0 for rows without a label.

        >>> a = Assignments(4, 2)
        >>> a.set(torch.arange(3), torch.tensor([0, 0, 1]))
        >>> a.sampling_weights().tolist()
        [0.5, 0.5, 1.0, 0.0]
        """
        size_R = self.counts[self.labels.clamp(min=0)].clamp(min=1)
        return torch.where(self.labels >= 0, 1.0 / size_R, 0.0)


def whiten(features_NF: np.ndarray, components: int) -> np.ndarray:
    """PCA scores with unit covariance, (N, min(components, rank)), float64; one column of zeros for constants."""
    x_NF = np.asarray(features_NF, dtype=np.float64)
    x_NF = x_NF - x_NF.mean(0)
    variance, axes = np.linalg.eigh(x_NF.T @ x_NF / max(1, len(x_NF) - 1))
    keep = np.flatnonzero(variance > 1e-10 * max(float(variance[-1]), 1e-300))[::-1][:components]
    if variance[-1] <= 1e-24 or keep.size == 0:
        return np.zeros((len(x_NF), 1))
    return (x_NF @ axes[:, keep]) / np.sqrt(variance[keep])


def cluster(features_NF: np.ndarray, k: int, pca: int = 256, seed: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Cluster as DeepCluster does: PCA whitening, unit rows, k-means. Return labels (N,) int64 and facts.

    Deterministic for a seed (one thread). An empty cluster restarts beside the centroid of the largest one; where
    there are fewer distinct rows than clusters, some stay empty. The facts: ``sizes`` (k,), ``empty``,
    ``largest_share``, ``inertia``, ``dims`` (PCA components kept), ``centroids`` (k, dims).
    Source: Caron et al. 2018, arXiv 1807.05520.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    features_NF = np.asarray(features_NF)
    if features_NF.ndim != 2 or not np.isfinite(features_NF).all():
        raise UserError("features to cluster must be a matrix of finite numbers (scans, features)")
    if not 1 <= k <= len(features_NF):
        raise UserError(f"k is {k}, but there are {len(features_NF)} scans to cluster; choose 1 <= k <= scans")
    with threadpool_limits(limits=1), np.errstate(all="ignore"):
        white_NP = whiten(features_NF, pca)
        norm_N1 = np.linalg.norm(white_NP, axis=1, keepdims=True)
        white_NP = white_NP / np.maximum(norm_N1, 1e-12)
        fit = _kmeans(KMeans(k, n_init=1, random_state=seed), white_NP)
        rng = np.random.default_rng(seed)
        for _ in range(5):
            sizes = np.bincount(fit.labels_, minlength=k)
            empty = np.flatnonzero(sizes == 0)
            if empty.size == 0:
                break
            centroids = fit.cluster_centers_.copy()
            noise = rng.standard_normal((empty.size, centroids.shape[1]))
            centroids[empty] = centroids[sizes.argmax()] + 1e-7 * noise
            fit = _kmeans(KMeans(k, init=centroids, n_init=1, random_state=seed), white_NP)
    sizes = np.bincount(fit.labels_, minlength=k)
    info = {
        "sizes": sizes,
        "empty": int((sizes == 0).sum()),
        "largest_share": float(sizes.max() / len(white_NP)),
        "inertia": float(fit.inertia_),
        "dims": int(white_NP.shape[1]),
        "centroids": fit.cluster_centers_,
    }
    return fit.labels_.astype(np.int64), info


def _kmeans(model: Any, rows_NP: np.ndarray) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows_NP)
