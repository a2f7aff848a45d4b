"""Loop transcriptions of the contrastive formulas, one scalar at a time, in float64."""

from __future__ import annotations

import torch


def _mean(values, sim):
    return sum(values) / len(values) if values else 0 * sim.sum()


def nt_xent(sim, pos, valid):
    losses = []
    for i in range(len(sim)):
        candidates = [t for t in range(sim.shape[1]) if valid[i, t]]
        positives = [p for p in candidates if pos[i, p]]
        if not positives:
            continue
        den = sum(torch.exp(sim[i, t]) for t in candidates)
        losses.append(-sum(torch.log(torch.exp(sim[i, p]) / den) for p in positives) / len(positives))
    return _mean(losses, sim)


def sup_con_in(sim, pos, valid):
    losses = []
    for i in range(len(sim)):
        candidates = [t for t in range(sim.shape[1]) if valid[i, t]]
        positives = [p for p in candidates if pos[i, p]]
        if not positives:
            continue
        den = sum(torch.exp(sim[i, t]) for t in candidates)
        losses.append(-torch.log(sum(torch.exp(sim[i, p]) / den for p in positives) / len(positives)))
    return _mean(losses, sim)


def decoupled(sim, pos, valid):
    losses = []
    for i in range(len(sim)):
        positives = [p for p in range(sim.shape[1]) if valid[i, p] and pos[i, p]]
        negatives = [j for j in range(sim.shape[1]) if valid[i, j] and not pos[i, j]]
        if not positives or not negatives:
            continue
        den = sum(torch.exp(sim[i, j]) for j in negatives)
        losses.append(-sum(torch.log(torch.exp(sim[i, p]) / den) for p in positives) / len(positives))
    return _mean(losses, sim)


def eps_sup_info_nce(sim, pos, valid, eps):
    losses = []
    for i in range(len(sim)):
        positives = [p for p in range(sim.shape[1]) if valid[i, p] and pos[i, p]]
        negatives = [j for j in range(sim.shape[1]) if valid[i, j] and not pos[i, j]]
        if not positives:
            continue
        total = 0.0
        for p in positives:
            den = torch.exp(sim[i, p] - eps) + sum(torch.exp(sim[i, j]) for j in negatives)
            total = total - torch.log(torch.exp(sim[i, p]) / den)
        losses.append(total / len(positives))
    return _mean(losses, sim)


def eps_sup_con(sim, pos, valid, eps):
    losses = []
    for i in range(len(sim)):
        positives = [p for p in range(sim.shape[1]) if valid[i, p] and pos[i, p]]
        negatives = [j for j in range(sim.shape[1]) if valid[i, j] and not pos[i, j]]
        if not positives:
            continue
        den = sum(torch.exp(sim[i, p] - eps) for p in positives) + sum(torch.exp(sim[i, j]) for j in negatives)
        losses.append(-sum(torch.log(torch.exp(sim[i, p]) / den) for p in positives) / len(positives))
    return _mean(losses, sim)
