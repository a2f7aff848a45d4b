"""MoCo: a slowly moving encoder fills a queue of keys that act as negatives."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.checks import Flag, Interval, Share, Temperature, Units
from medssl.distributed import gather_scans
from medssl.heads.mlp import MLP, Norm, behind
from medssl.losses.contrastive import nt_xent
from medssl.losses.pairs import queue_pairs
from medssl.memory.ema import EMA
from medssl.memory.queue import Queue
from medssl.methods.base import Method
from medssl.types import Batch, Embed, Facts, Features, Joint, Progress, Rows, Step


class MomentumQueue(Method):
    """Find the other view of a scan among the keys of many earlier scans.

    Views: 2 (query, key). Labels: none; keys of the same person are ignored. State: momentum encoder and projector,
    FIFO queue of keys with subject and step. Collapse: prevented by the queue. Papers: He et al. 2020, arXiv
    1911.05722 (MoCo); Chen et al. 2020, arXiv 2003.04297 (v2: MLP projector). 3D: a queue of 256 to 4096 keys, at
    most as many as there are training scans outside one batch, and group norm instead of shuffled batch norm.

    queue: keys kept (paper 65536); None: the largest of at most 1024 that the cohort allows. momentum: 0.99 (paper
    0.999 with 200 epochs of ImageNet). temperature: 0.2 (v2). symmetric: also query with the second view.
    projector: hidden and output sizes ("width": as wide as the encoder, as in v2). norm: batch | layer | group | none.
    """

    joint: ClassVar[bool] = True

    def __init__(
        self,
        encoder: nn.Module,
        facts: Facts,
        *,
        queue: Annotated[int, Interval(1, 2**20)] | None = None,
        momentum: Share = 0.99,
        temperature: Temperature = 0.2,
        symmetric: Flag = True,
        projector: Units = ("width", 128),
        norm: Norm = "none",
    ) -> None:
        super().__init__(encoder, facts)
        self.projector = MLP(behind(self.width, projector), norm=norm)
        outside = max(facts.batch, len(facts.train) - facts.batch)
        self.teacher = EMA(nn.ModuleList([encoder, self.projector]), momentum, end_momentum="same")
        keys = min(1024, outside) if queue is None else queue
        self.queue = Queue(keys, self.projector.dims[-1], seed=0)  # random keys until it is full
        self.temperature, self.symmetric = temperature, symmetric
        self.spares_relatives = True
        self.chance = math.log(len(self.queue) + 1)

    def before_epoch(self, embed: Embed, progress: Progress) -> None:
        """Before the first step: spread the embeddings of the cohort, of queries and keys alike."""
        if progress.step == 0:
            self.projector.calibrate_(embed(lambda x: self.encoder(x).pooled)[1])
            self.teacher.reset(self._online())

    def embed(self, batch: Batch) -> Rows:
        """h of the queries and, by the momentum encoder, of the keys that they look for, both (Q, B, E).

        Q is two queries a scan, or one. The projectors act in ``compare``, where a batch norm sees the whole batch.
        """
        pairs = [batch.views, batch.views[::-1]][: 1 + self.symmetric]
        h_QBE = torch.stack([self.encoder(query).pooled for query, _ in pairs])
        slow = self.teacher.module[0]  # type: ignore[index]
        with torch.no_grad():
            return h_QBE, torch.stack([slow(key).pooled for _, key in pairs])

    def compare(self, rows: Rows, batch: Batch, progress: Progress) -> Step:
        """InfoNCE of each query against its key and the queue."""
        h_QBE, k_QBD = rows[0], self._keys(rows[1])
        q_QBD = [self.project(Features(h_BE)) for h_BE in h_QBE]
        losses = [self._contrast(q_BD, k_BD, batch) for q_BD, k_BD in zip(q_QBD, k_QBD, strict=True)]
        z_ND = torch.cat(q_QBD if self.symmetric else [q_QBD[0], k_QBD[0]])
        raw = lambda: self.projector(h_QBE.flatten(0, 1))  # noqa: E731
        loss, terms = self.regularised(torch.stack(losses).mean(), Joint(z_ND, batch, raw))
        ages = self.queue.age(progress.step)
        log = {
            "queue_filled": self.queue.filled.float().mean(),
            "queue_age": ages.float().mean() if len(ages) else torch.zeros(()),
            "teacher_distance": self.teacher.distance(self._online()),
        }
        return Step({"loss": loss}, log | terms, {"z": z_ND.detach(), "keys": k_QBD[0]})

    def after_step(self, step: Step, batch: Batch, progress: Progress) -> None:
        """Push the keys of all processes, then move the momentum encoder."""
        keys, subjects = gather_scans(batch.index, step.carry["keys"], batch.meta["subject"])
        self.queue.push(keys, subjects, step=progress.step)
        self.teacher.update(self._online(), progress.fraction)

    def project(self, features: Features) -> Tensor:
        """z (N, D), L2-normalised."""
        return F.normalize(self.projector(features.pooled), dim=1)

    def _online(self) -> nn.Module:
        return nn.ModuleList([self.encoder, self.projector])

    @torch.no_grad()
    def _keys(self, h_QBE: Tensor) -> Tensor:
        """The keys (Q, B, D) of what the momentum encoder made; a batch norm sees one view at a time."""
        slow = self.teacher.module[1]  # type: ignore[index]
        return torch.stack([F.normalize(slow(h_BE), dim=1) for h_BE in h_QBE])

    def _contrast(self, query_BD: Tensor, key_BD: Tensor, batch: Batch) -> Tensor:
        pairs = queue_pairs(
            query_BD,
            key_BD,
            self.queue.keys,
            subject_N=batch.meta["subject"],
            subject_K=self.queue.ids,
            filled_K=torch.ones_like(self.queue.filled),
            temperature=self.temperature,
        )
        return nt_xent(*pairs)
