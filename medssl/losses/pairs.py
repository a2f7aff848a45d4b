"""What the contrastive losses are fed: similarities, which pairs are positives, which must never be used.

Rows are stacked view-major: row r = v * B + b (``tile`` does the same to labels). Columns start with the
anchors' own rows (``medssl.distributed.gather`` puts them first), so column r < N is anchor r itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.errors import UserError
from medssl.losses.lse import NO_WEIGHT, wide

PairKernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Pairs(NamedTuple):
    """Arguments of a contrastive loss: similarity / temperature, positives, pairs that may be used; all (N, M)."""

    sim_NM: Tensor
    pos_NM: Tensor
    valid_NM: Tensor


def cosine(a_ND: Tensor, b_MD: Tensor, temperature: float) -> Tensor:
    """<a, b> / (|a| |b| temperature), (N, M), in float32 (float64 stays) also under autocast.

    >>> cosine(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0], [4.0, -3.0]]), 0.5).tolist()
    [[2.0, 0.0]]
    """
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; it must be positive")
    with torch.autocast(a_ND.device.type, enabled=False):
        return F.normalize(wide(a_ND), dim=1) @ F.normalize(wide(b_MD), dim=1).T / temperature


def tile(x_B: Tensor, views: int) -> Tensor:
    """Repeat per-scan values for view-major rows: (B, ...) -> (V * B, ...)."""
    return x_B.repeat(views, *[1] * (x_B.ndim - 1))


def same(a_N: Tensor, b_M: Tensor) -> Tensor:
    """True where two codes are equal (N, M): the same scan, subject, class."""
    return a_N[:, None] == b_M[None, :]


def not_self(n: int, m: int, device: torch.device | None = None, rows_N: Tensor | None = None) -> Tensor:
    """Mask (n, m) that is False where column r is anchor r itself; ``rows_N`` are other columns of the anchors."""
    rows_N = torch.arange(n, device=device) if rows_N is None else rows_N
    return rows_N[:, None] != torch.arange(m, device=device)[None, :]


def view_masks(
    scan_N: Tensor,
    scan_M: Tensor,
    subject_N: Tensor,
    subject_M: Tensor,
    *,
    relatives: Literal["positive", "ignore", "negative"] = "positive",
    own_rows: bool = True,
    rows_N: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Positives and valid pairs, both (N, M) boolean, from the scan (row of the manifest) and subject of every row.

    Positives are the other views of the same scan. ``relatives`` says what other scans of the same person are:
    positives (default), ignored, or negatives like everybody else. ``own_rows``: the columns start with the
    anchors themselves, which are never used; False where they do not, as in a queue or a bank. ``rows_N``: the
    columns of these anchors, where they are only some of them.
    """
    if relatives not in ("positive", "ignore", "negative"):
        raise UserError(f"relatives is {relatives!r}; it is one of positive, ignore, negative")
    scan_NM, person_NM = same(scan_N, scan_M), same(subject_N, subject_M)
    valid_NM = torch.ones_like(scan_NM)
    if own_rows:
        valid_NM = not_self(len(scan_N), len(scan_M), scan_NM.device, rows_N)
    if relatives == "ignore":
        valid_NM = valid_NM & (scan_NM | ~person_NM)
    pos_NM = scan_NM | person_NM if relatives == "positive" else scan_NM
    return pos_NM & valid_NM, valid_NM


def queue_pairs(
    query_ND: Tensor,
    key_ND: Tensor,
    queue_KD: Tensor,
    *,
    subject_N: Tensor,
    subject_K: Tensor,
    filled_K: Tensor,
    temperature: float,
    relatives: Literal["positive", "ignore", "negative"] = "ignore",
) -> Pairs:
    """Pairs of MoCo: the first column is the anchor's own key (the positive), the other K are the queue.

    Rows of the queue that are not filled yet are never used. Keys of the same person are ignored, taken as
    further positives, or left among the negatives. Keys and queue receive no gradient.
    """
    if len(queue_KD) == 0:
        raise UserError("the queue has size 0; momentum contrast needs at least one key")
    query_unit, key_unit = (F.normalize(wide(x), dim=1) for x in (query_ND, key_ND.detach()))
    own_N = (query_unit * key_unit).sum(1)
    sim_NM = torch.cat([own_N[:, None] / temperature, cosine(query_ND, queue_KD.detach(), temperature)], dim=1)
    person_NK = same(subject_N, subject_K)
    usable_NK = filled_K[None, :] & (~person_NK if relatives == "ignore" else torch.ones_like(person_NK))
    first_N1 = torch.ones_like(usable_NK[:, :1])
    pos_NK = person_NK & usable_NK if relatives == "positive" else torch.zeros_like(person_NK)
    return Pairs(sim_NM, torch.cat([first_N1, pos_NK], 1), torch.cat([first_N1, usable_NK], 1))


def label_weights(
    kernels: Mapping[str, PairKernel],
    labels_N: Mapping[str, Tensor],
    labels_M: Mapping[str, Tensor],
    same_subject_NM: Tensor,
    policy: Literal["self", "drop"] = "self",
    *,
    relatives: Literal["label", "one"] = "label",
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-weights, pairs that may be used, and distances of all pairs from their labels, each (N, M).

    Several labels multiply; a factor whose label is missing on either side (NaN; -1 for integer codes; any
    negative for a categorical kernel) is left out of the product. A pair without any common label follows
    ``policy``: ``self``, weight 1 for rows of the same subject and no weight (-1e9) for all others, so that the
    row attracts only itself and stays a repeller; ``drop``, the pair is not valid, so that the row is no anchor,
    no positive and no repeller.

    Rows of one subject whose labels are known have the weight that the labels say: two views of a scan share
    them, hence w = K(0) = 1, while two visits years apart are as alike as their ages. ``relatives="one"`` gives
    every pair of the same subject weight 1 instead (positives: near label or same subject).

    The distance is that of the kernel, in label units, or -log w for several; infinite where no label says.
    """
    if policy not in ("self", "drop") or relatives not in ("label", "one"):
        raise UserError(f"policy is {policy!r} (self or drop) and relatives {relatives!r} (label or one)")
    parts = [_factor(kernel, name, labels_N, labels_M) for name, kernel in kernels.items()]
    if not parts:
        raise UserError("no kernel is given; name at least one label with its kernel")
    logw_NM = torch.stack([torch.where(known, logw, 0.0) for _, logw, known in parts]).sum(0).clamp(min=NO_WEIGHT)
    known_NM = torch.stack([known for *_, known in parts]).any(0)
    distance_NM = parts[0][0] if len(parts) == 1 else -logw_NM
    fallback_NM = torch.where(same_subject_NM, 0.0, NO_WEIGHT).to(logw_NM.dtype)
    distance_NM = torch.where(known_NM, distance_NM, torch.where(same_subject_NM, 0.0, torch.inf))
    logw_NM = torch.where(known_NM, logw_NM, fallback_NM)
    if relatives == "one":
        logw_NM = torch.where(same_subject_NM, 0.0, logw_NM)
        distance_NM = torch.where(same_subject_NM, 0.0, distance_NM)
    valid_NM = known_NM if policy == "drop" else torch.ones_like(known_NM)
    return logw_NM, valid_NM, distance_NM


def labelled_pairs(
    kernels: Mapping[str, PairKernel],
    labels_N: Mapping[str, Tensor],
    labels_M: Mapping[str, Tensor],
    subject_N: Tensor,
    subject_M: Tensor,
    policy: Literal["self", "drop"] = "self",
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function of some anchors (their indices (b,)) that gives their log-weights and valid pairs, both (b, M).

    As ``label_weights``, and no anchor is a candidate of itself (column r is anchor r). For ``rows.blockwise``.
    """

    def pairs(rows_b: Tensor) -> tuple[Tensor, Tensor]:
        own_bM = same(subject_N[rows_b], subject_M)
        labels_b = {name: y_N[rows_b] for name, y_N in labels_N.items()}
        logw_bM, usable_bM, _ = label_weights(kernels, labels_b, labels_M, own_bM, policy)
        return logw_bM, usable_bM & not_self(len(rows_b), len(subject_M), own_bM.device, rows_b)

    return pairs


def label_order(kernels: Mapping[str, PairKernel], labels_M: Mapping[str, Tensor], subject_M: Tensor) -> Tensor | None:
    """Order of the candidates (M,) along which the log-weights of an anchor rise and then fall; None if there is none.

    Such is the order of the labels for a kernel that falls with |y - y'|; classes (``sharp`` kernels) come first where
    one other label is multiplied with them. Missing labels stand at an end, rows of one subject side by side. With
    ``missing`` labels a few rows may still rise twice, which ``threshold`` sees for itself.
    """
    names = sorted(kernels, key=lambda name: bool(getattr(kernels[name], "sharp", False)))
    smooth = [name for name in names if not getattr(kernels[name], "sharp", False)]
    if len(smooth) > 1 or any(labels_M[name].ndim != 1 for name in names):
        return None
    order_M = subject_M.argsort(stable=True)
    for name in names:
        order_M = order_M[labels_M[name][order_M].argsort(stable=True)]
    return order_M


def _factor(
    kernel: PairKernel, name: str, labels_N: Mapping[str, Tensor], labels_M: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance, log-weight and whether both labels are known, for one label."""
    if name not in labels_N or name not in labels_M:
        raise UserError(f"a kernel reads the label {name!r}, but the batch has {sorted(labels_N)}")
    y_N, y_M = labels_N[name], labels_M[name]
    distance_NM, logw_NM = kernel(y_N, y_M)
    codes = bool(getattr(kernel, "codes", False))
    missing_NM = _missing(y_N, codes)[:, None] | _missing(y_M, codes)[None, :] | logw_NM.isnan()
    return distance_NM, logw_NM, ~missing_NM


def _missing(y: Tensor, codes: bool) -> Tensor:
    missing = y.isnan()
    if codes:
        missing = missing | (y < 0)
    elif not y.is_floating_point() and y.dtype != torch.bool:
        missing = missing | (y == -1)
    return missing.flatten(1).all(1) if y.ndim > 1 else missing
