"""Contrastive losses, forward and backward, beside NT-Xent of the same size: time, memory, and both against N.

The peers are ``nt_xent`` of medssl (a mean over positives, masks for relatives) and plain cross-entropy on the same
matrix. The cubic reference writes L_thr as it is printed, with a tensor of N x N x N.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.speed.timing import Part, alone, paired, peak_memory, ratio
from medssl.kernels import rbf
from medssl.losses.contrastive import nt_xent, nt_xent_rows
from medssl.losses.kernel import (
    exponential,
    exponential_rows,
    threshold,
    threshold_rows,
    y_aware,
    y_aware_rows,
)
from medssl.losses.pairs import cosine, label_order, labelled_pairs, not_self, same, tile, view_masks
from medssl.losses.rows import blockwise

KERNELS = {"age": rbf(5.0)}
KEYS = {"thr": "L_thr", "exp": "L_exp", "yaware": "y-aware"}
VARIANTS = {"thr_slide": "L_thr, norm slide", "thr_isbi": "L_thr, isbi_code", "exp_k": "L_exp, include_k",
            "exp_isbi": "L_exp, isbi_code", "thr_sorted": "L_thr, a sort per anchor"}  # fmt: skip


def cubic(sim_NN: Tensor, logw_NN: Tensor, valid_NN: Tensor) -> Tensor:
    """L_thr as printed (norm anchor): a mask [i, k, t] of who is less similar to i than k, and a sum over t."""
    less_NNN = (logw_NN[:, None, :] < logw_NN[:, :, None]) & valid_NN[:, None, :]
    exps_NNN = torch.where(less_NNN, sim_NN[:, None, :], -math.inf)
    has_NN = valid_NN & less_NNN.any(2)
    den_NN = torch.logsumexp(torch.where(has_NN[:, :, None], exps_NNN, 0.0), dim=2)
    weight_NN = torch.where(valid_NN, logw_NN, -math.inf).softmax(1)
    loss_N = torch.where(has_NN, weight_NN * (den_NN - sim_NN), 0.0).sum(1)
    return loss_N[has_NN.any(1)].mean()


def rows_of(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two views of n / 2 scans: unit embeddings (n, 128), ages, scan numbers."""
    generator = torch.Generator().manual_seed(0)
    z_ND = F.normalize(torch.randn(n, 128, generator=generator), dim=1)
    return z_ND, tile(10 + 70 * torch.rand(n // 2, generator=generator), 2), tile(torch.arange(n // 2), 2)


def on_matrix(name: str, n: int) -> Callable[[], Tensor]:
    """Forward and backward of a loss on a matrix in hand."""
    z_ND, age_N, scan_N = rows_of(n)
    sim_NN, valid_NN = cosine(z_ND, z_ND, 0.1).requires_grad_(), not_self(n, n)
    if name in ("ntxent", "entropy"):
        pos_NN, own_N = same(scan_N, scan_N) & valid_NN, (torch.arange(n) + n // 2) % n
        losses: dict[str, Callable[[], Tensor]] = {
            "ntxent": lambda: nt_xent(sim_NN, pos_NN, valid_NN),
            "entropy": lambda: F.cross_entropy(sim_NN.masked_fill(~valid_NN, -math.inf), own_N),
        }
        loss = losses[name]
    else:
        logw_NN, order = rbf(5.0)(age_N, age_N)[1], {"order_M": label_order(KERNELS, {"age": age_N}, scan_N)}
        options: dict[str, tuple[Any, dict[str, Any]]] = {
            "thr": (threshold, order), "exp": (exponential, {}), "yaware": (y_aware, {}), "cubic": (cubic, {}),
            "thr_slide": (threshold, order | {"norm": "slide", "ratio_max": 100.0}),
            "thr_isbi": (threshold, order | {"variant": "isbi_code"}), "thr_sorted": (threshold, {}),
            "exp_k": (exponential, {"variant": "include_k"}), "exp_isbi": (exponential, {"variant": "isbi_code"}),
        }  # fmt: skip
        function, given = options[name]
        loss = partial(function, sim_NN, logw_NN, valid_NN, **given)

    def action() -> Tensor:
        return torch.autograd.grad(loss(), sim_NN)[0]

    return action


def by_blocks(name: str, n: int) -> Callable[[], Tensor]:
    """Forward and backward of a loss from embeddings and labels, pairs included, as a method calls it."""
    z_ND, age_N, scan_N = rows_of(n)
    z_ND.requires_grad_()
    labels, visit_N = {"age": age_N}, label_order(KERNELS, {"age": age_N}, scan_N)

    def classes(part: Tensor) -> tuple[Tensor, Tensor]:
        return view_masks(scan_N[part], scan_N, scan_N[part], scan_N, rows_N=part)

    loss = {"thr": partial(threshold_rows, order_M=visit_N), "exp": exponential_rows, "yaware": y_aware_rows}
    pairs = classes if name == "ntxent" else labelled_pairs(KERNELS, labels, labels, scan_N, scan_N)
    rows = loss.get(name, nt_xent_rows)

    def action() -> Tensor:
        return torch.autograd.grad(
            blockwise(rows, z_ND, z_ND, pairs, temperature=0.1, visit_N=visit_N)[0], z_ND
        )[0]  # fmt: skip

    return action


def measure(quick: bool) -> Part:
    """Ratios at N = 4096, variants, the cubic reference, and the block form up to N = 32768 (quick: 4096)."""
    part = Part("Losses: forward and backward beside NT-Xent")
    times = paired({k: on_matrix(k, 4096) for k in ("ntxent", "entropy", *KEYS)}, rounds=2 if quick else 9)
    for key, label in KEYS.items():
        value = ratio(times, key, "ntxent")
        part.ratio(f"losses.{key}_vs_ntxent", value, f"time of {label} over NT-Xent's, N = 4096")
        value = ratio(times, key, "entropy")
        part.ratio(f"losses.{key}_vs_entropy", value, f"time of {label} over plain cross-entropy's, N = 4096")
    for name in times:
        part.rows.append({"matrix, N": 4096, "loss": name, "seconds": median(times[name])})
    memory = {k: peak_memory(on_matrix, k, 4096) for k in ("ntxent", *KEYS)}
    for key, label in KEYS.items():
        meaning = f"memory that {label} adds over what NT-Xent adds, N = 4096"
        part.ratio(f"losses.{key}_memory_vs_ntxent", memory[key] / memory["ntxent"], meaning)
    part.rows += [{"matrix, N": 4096, "loss": name, "MiB added": mib} for name, mib in memory.items()]
    _variants(part, rounds=1 if quick else 5)
    _cubic(part, (192,) if quick else (192, 384))
    for n in (2048, 4096) if quick else (2048, 4096, 8192, 16384, 32768):
        part.rows += _block_form(n, measured=("thr",) if quick else ("ntxent", *KEYS))
    part.notes.append("Similarities of 128 numbers at temperature 0.1, two views, ages uniform in 10 to 80, rbf of 5.")
    return part


def _variants(part: Part, rounds: int) -> None:
    times = paired({k: on_matrix(k, 4096) for k in ("ntxent", *VARIANTS)}, rounds=rounds, warmup=int(rounds > 1))
    for name, label in VARIANTS.items():
        part.ratio(
            f"losses.{name}_vs_ntxent", ratio(times, name, "ntxent"), f"time of {label} over NT-Xent's, N = 4096"
        )


def _cubic(part: Part, sizes: tuple[int, ...]) -> None:
    for n in sizes:
        times = paired({name: on_matrix(name, n) for name in ("cubic", "thr")}, rounds=5)
        added = {name: peak_memory(on_matrix, name, n) for name in ("cubic", "thr")}
        row = {f"{name} {unit}": value for name in added for unit, value in
               (("seconds", median(times[name])), ("MiB", added[name]))}  # fmt: skip
        part.rows.append({"N (cubic reference)": n} | row)
        if n == sizes[-1]:
            value = ratio(times, "cubic", "thr")
            part.ratio(
                "losses.cubic_vs_thr", value, f"time of the N x N x N formula over ours, N = {n}; more is better"
            )
            value = added["cubic"] / max(added["thr"], 1.0)
            part.ratio("losses.cubic_memory_vs_thr", value, f"its memory over ours, N = {n}; more is better")


def _block_form(n: int, measured: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of a table against N: up to 4096 the losses take turns, above each runs once, in a process of its own."""
    few, names = n <= 4096, ("ntxent", *KEYS)
    seconds = {k: median(v) for k, v in paired({k: by_blocks(k, n) for k in names}, 1).items()} if few else {}
    rows = []
    for name in names:
        once, added = alone(by_blocks, name, n) if name in measured else (math.nan, math.nan)
        rows.append({"from embeddings, N": n, "loss": name, "seconds": seconds.get(name, once),
                     "MiB added": "" if math.isnan(added) else f"{added:.0f}",
                     "MiB of one N x N matrix": n * n * 4 // 2**20})  # fmt: skip
    return rows
