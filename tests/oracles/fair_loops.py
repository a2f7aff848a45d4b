"""Loop transcriptions of FairKL, alignment, uniformity and the VICReg terms, one scalar at a time, in float64."""

from __future__ import annotations

import math

import torch


def _group(sim, share, chosen, eps):
    pairs = [(share[i, j], sim[i, j]) for i, j in chosen if share[i, j] > 0]
    mass = sum(w for w, _ in pairs)
    if mass < 2:
        return None
    mean = sum(w * s for w, s in pairs) / mass
    return mean, sum(w * (s - mean) ** 2 for w, s in pairs) / mass + eps


def fair_kl(sim, w, same, valid, form="kl", kappa=1.0, eps=1e-4):
    total = 0 * sim.sum()
    every = [(i, j) for i in range(sim.shape[0]) for j in range(sim.shape[1]) if valid[i, j]]
    for share in (w, 1 - w):
        one = _group(sim, share, [(i, j) for i, j in every if same[i, j]], eps)
        other = _group(sim, share, [(i, j) for i, j in every if not same[i, j]], eps)
        if one is None or other is None:
            continue
        (m, v), (n, u) = one, other
        if form == "kl":
            total = total + 0.5 * ((v + (m - n) ** 2) / u - torch.log(v / u) - 1)
        else:
            total = total + (m - n) ** 2 + kappa * (torch.sqrt(v) - torch.sqrt(u)) ** 2
    return total


def alignment(z, w, alpha=2.0):
    terms = [(w[i, j], sum((z[i] - z[j]) ** 2) ** (alpha / 2)) for i in range(len(z)) for j in range(i + 1, len(z))]
    return sum(a * d for a, d in terms) / sum(a for a, _ in terms)


def uniformity(z, w, t=2.0):
    terms = [
        (1 - w[i, j], math.e ** (-t * sum((z[i] - z[j]) ** 2))) for i in range(len(z)) for j in range(i + 1, len(z))
    ]
    return torch.log(sum(a * e for a, e in terms) / sum(a for a, _ in terms))


def variance(z, gamma=1.0, eps=1e-4):
    n, d = z.shape
    total = 0 * z.sum()
    for j in range(d):
        mean = sum(z[i, j] for i in range(n)) / n
        spread = torch.sqrt(sum((z[i, j] - mean) ** 2 for i in range(n)) / (n - 1) + eps)
        total = total + (gamma - spread if spread < gamma else 0 * spread)
    return total / d


def covariance(z):
    n, d = z.shape
    mean = [sum(z[i, j] for i in range(n)) / n for j in range(d)]
    total = 0 * z.sum()
    for a in range(d):
        for b in range(d):
            if a != b:
                total = total + (sum((z[i, a] - mean[a]) * (z[i, b] - mean[b]) for i in range(n)) / (n - 1)) ** 2
    return total / d
