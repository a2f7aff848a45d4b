"""Loop transcriptions of the weakly supervised losses, one scalar at a time, in float64.

``logw`` is compared as it is, so that weights which underflow keep their order; a weight is exp(logw).
"""

from __future__ import annotations

import math

import torch

NOTHING = -9e8  # log-weights below this are weight zero


def _weight(logw):
    return math.exp(logw) if logw > NOTHING else 0.0


def _mean(values, sim):
    return sum(values) / len(values) if values else 0 * sim.sum()


def _candidates(valid, i):
    return [t for t in range(valid.shape[1]) if valid[i, t]]


def y_aware(sim, logw, valid):
    losses = []
    for i in range(len(sim)):
        a = _candidates(valid, i)
        w = {t: _weight(logw[i, t].item()) for t in a}
        if sum(w.values()) == 0:
            continue
        den = sum(torch.exp(sim[i, t]) for t in a)
        losses.append(-sum(w[k] / sum(w.values()) * torch.log(torch.exp(sim[i, k]) / den) for k in a))
    return _mean(losses, sim)


def threshold(sim, logw, valid, norm):
    """The cubic loop of the printed formula."""
    losses = []
    for i in range(len(sim)):
        a = _candidates(valid, i)
        total, terms = 0.0, 0
        for k in a:
            less = [t for t in a if t != k and logw[i, t].item() < logw[i, k].item()]
            if not less:
                continue
            den = sum(torch.exp(sim[i, t]) for t in less)
            if norm == "anchor":
                ratio = _weight(logw[i, k].item()) / sum(_weight(logw[i, t].item()) for t in a)
            else:
                top = max(logw[i, t].item() for t in less)
                log_sum = top + math.log(sum(math.exp(logw[i, t].item() - top) for t in less))
                ratio = math.exp(logw[i, k].item() - log_sum)
            total = total - ratio * torch.log(torch.exp(sim[i, k]) / den)
            terms += 1
        if terms:
            losses.append(total)
    return _mean(losses, sim)


def threshold_isbi(sim, logw, valid):
    """D_i = sum_t c_it e^{s_it} with c_it = #{c : w_tc < w_ti}, counted over the whole row of t."""
    n = len(sim)
    losses = []
    for i in range(n):
        a = _candidates(valid, i)
        den = 0.0
        for t in a:
            count = sum(1 for c in range(n) if valid[t, c] and logw[t, c].item() < logw[t, i].item())
            den = den + count * torch.exp(sim[i, t])
        w = {t: _weight(logw[i, t].item()) for t in a}
        if not a or float(torch.as_tensor(den).detach()) == 0 or sum(w.values()) == 0:
            continue
        losses.append(-sum(w[k] / sum(w.values()) * (sim[i, k] - torch.log(den)) for k in a))
    return _mean(losses, sim)


def exponential(sim, logw, valid, variant):
    losses = []
    for i in range(len(sim)):
        a = _candidates(valid, i)
        w = {t: _weight(logw[i, t].item()) for t in a}
        shift = max(sim[i, t].item() for t in range(sim.shape[1])) if variant == "isbi_code" else 0.0
        total, terms = 0.0, 0
        for k in a:
            others = [t for t in a if variant != "slide" or t != k]
            if not others or w[k] == 0:
                continue
            den = sum(torch.exp((sim[i, t] - shift) * (1 - w[t])) for t in others)
            total = total - w[k] * torch.log(torch.exp(sim[i, k] - shift) / den)
            terms += 1
        if terms:
            losses.append(total / sum(w.values()))
    return _mean(losses, sim)


def published_code(features_BVD, labels_B, kernel, method, tau):
    """The arithmetic of the ISBI 2023 code on dense three-way arrays, without its tau / base_tau factor.

    features: (B, V, D) unit vectors; kernel: labels (B, 1) -> weights (B, B); method: yaware, threshold, expw.
    """
    b, v, _ = features_BVD.shape
    z = torch.cat([features_BVD[:, i] for i in range(v)])
    w = kernel(labels_B[:, None]).repeat(v, v)
    m = b * v
    off = 1 - torch.eye(m, dtype=z.dtype)
    logits = z @ z.T / tau
    logits = logits - logits.max(1, keepdim=True).values.detach()
    if method == "expw":
        uniformity = torch.exp(logits * (1 - w)) * off
    else:
        uniformity = torch.exp(logits) * off
    if method == "threshold":
        less = torch.zeros(m, m, m, dtype=z.dtype)
        for i in range(m):
            for t in range(m):
                for c in range(m):
                    less[i, t, c] = float(w[t, i] - w[t, c] > 0)
        uniformity = (uniformity[:, :, None] * less).sum(-1)
    log_prob = logits - torch.log(uniformity.sum(1, keepdim=True))
    weight = w * off
    return -((weight * log_prob).sum(1) / weight.sum(1)).mean()
