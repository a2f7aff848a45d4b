"""DeepCluster: k-means over the cohort, then learn to predict the clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn

from medssl.checks import Count, Interval, Width
from medssl.distributed import over_processes
from medssl.errors import RecipeError
from medssl.losses.cluster import pseudo_label_loss
from medssl.memory.assignments import Assignments, cluster
from medssl.methods.base import Method, stack_views
from medssl.types import Batch, Embed, Facts, Progress, Step


class DeepCluster(Method):
    """Cluster the features of all scans, train on the cluster numbers, repeat.

    Views: 1. Labels: none. State: cluster of every scan (by row of the cohort), agreement with the previous
    clustering. Collapse: one cluster takes all (``largest_cluster`` goes to 1); drawing scans uniformly over
    clusters and re-seeding empty ones prevent it. Paper: Caron et al. 2018, arXiv 1807.05520. 3D: k = N / 20 (at
    most 300) instead of 10,000, PCA to at most 256, features without augmentation.

    clusters: k; None: a twentieth of the training scans, 2 to 300. pca: dimensions kept before k-means. every:
    epochs between clusterings (paper 1).
    """

    views: ClassVar[int] = 1
    agreement: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        facts: Facts,
        *,
        clusters: Annotated[int, Interval(2, 100_000)] | None = None,
        pca: Width = 64,
        every: Count = 1,
    ) -> None:
        super().__init__(encoder, facts)
        scans = len(facts.train)
        self.k = min(300, max(2, scans // 20)) if clusters is None else clusters
        if self.k > scans:
            raise RecipeError(
                f"method.clusters is {self.k}, but there are {scans} training scans; use 2 to {scans} clusters"
            )
        self.pca, self.every = pca, every
        self.classifier = nn.Linear(self.width, self.k)
        self.assigned = Assignments(facts.scans, self.k)
        self.register_buffer("agreement", torch.zeros(()))
        self.chance = math.log(self.k)

    def before_epoch(self, embed: Embed, progress: Progress) -> Sequence[nn.Module] | None:
        """Cluster the cohort and start a new classifier, with a new optimiser, as the published code does."""
        if progress.epoch % self.every:
            return None
        index_N, h_NE = embed(lambda x: self.encoder(x).pooled)
        label_N, _ = cluster(h_NE.double().numpy(), self.k, pca=self.pca, seed=progress.epoch)
        before_N = self.assigned.labels[index_N].cpu()
        if bool((before_N >= 0).all()):
            self.agreement.fill_(float(normalized_mutual_info_score(before_N.numpy(), label_N)))
        device = self.assigned.labels.device
        self.assigned.set(index_N.to(device), torch.from_numpy(label_N).to(device))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        return (self.classifier,)

    def scan_weights(self) -> Tensor | None:
        """Every cluster is drawn equally often."""
        return self.assigned.sampling_weights() if int(self.assigned.updates) else None

    def step(self, batch: Batch, progress: Progress) -> Step:
        """Cross-entropy to the cluster numbers."""
        h_BE = stack_views(self.encoder, batch.views).pooled
        label_B = self.assigned.labels[batch.index]
        logits_BK = self.classifier(h_BE)
        right = (logits_BK.argmax(1) == label_B).float().mean()
        share = self.assigned.counts.max() / self.assigned.counts.sum().clamp(min=1)
        log = {"cluster_accuracy": right, "largest_cluster": share, "agreement": self.agreement.clone()}
        loss = over_processes(pseudo_label_loss(logits_BK, label_B), (label_B != -1).sum)
        return Step({"loss": loss}, log, {"z": h_BE.detach()})
