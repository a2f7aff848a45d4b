"""The last K keys, first in, first out, with the subject, the step and further numbers of each."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.errors import UserError


class Queue(nn.Module):
    """FIFO of ``size`` keys of ``dim`` numbers. The batch need not divide the size.

    Buffers: ``keys`` (K, D) float32; ``ids`` (K,) int64, the subject of each key, -1 while empty; ``born`` (K,) the
    step it was pushed, -1 while empty; ``column_<name>`` (K,) float32 for each name in ``columns`` (labels of the
    keys; NaN while empty); ``pointer``, where the next key goes; ``count``, how many rows are filled.
    seed: random unit rows before the queue is full (nearest-neighbour methods use them); None: zeros.
    """

    keys: Tensor
    ids: Tensor
    born: Tensor
    pointer: Tensor
    count: Tensor

    def __init__(self, size: int, dim: int, columns: Sequence[str] = (), seed: int | None = None) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise UserError(f"a queue of {size} keys of {dim} numbers cannot be; both must be at least 1")
        keys_KD = torch.zeros(size, dim)
        if seed is not None:
            keys_KD = F.normalize(torch.randn(size, dim, generator=torch.Generator().manual_seed(seed)), dim=1)
        self.columns = tuple(columns)
        self.register_buffer("keys", keys_KD)
        self.register_buffer("ids", torch.full((size,), -1))
        self.register_buffer("born", torch.full((size,), -1))
        for name in self.columns:
            self.register_buffer(f"column_{name}", torch.full((size,), torch.nan))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        """K, the number of rows, filled or not."""
        return len(self.keys)

    @property
    def filled(self) -> Tensor:
        """(K,) boolean: rows that hold a key."""
        return self.born >= 0

    def column(self, name: str) -> Tensor:
        """(K,) numbers stored with the keys, NaN where empty."""
        if name not in self.columns:
            raise UserError(f"the queue has no column {name!r}; it has {list(self.columns)}")
        stored: Tensor = getattr(self, f"column_{name}")
        return stored

    @torch.no_grad()
    def push(self, z_ND: Tensor, ids_N: Tensor, columns: Mapping[str, Tensor] | None = None, step: int = 0) -> None:
        """Append N keys in order, overwriting the oldest; of more than K only the last K stay."""
        given = dict(columns or {})
        if set(given) != set(self.columns):
            raise UserError(f"the queue stores the columns {sorted(self.columns)}, got {sorted(given)}")
        size, n = len(self), len(z_ND)
        place_N = (self.pointer + torch.arange(n, device=self.keys.device)) % size
        last = slice(max(0, n - size), n)
        stored = {"keys": z_ND, "ids": ids_N, **{f"column_{k}": v for k, v in given.items()}}
        for name, value in stored.items():
            buffer: Tensor = getattr(self, name)
            buffer.index_copy_(0, place_N[last], value[last].detach().to(buffer))
        self.born.index_fill_(0, place_N[last], step)
        self.pointer.copy_((self.pointer + n) % size)
        self.count.copy_((self.count + n).clamp(max=size))

    def order(self) -> Tensor:
        """Rows that hold a key, oldest first."""
        count, size = int(self.count), len(self)
        return (self.pointer - count + torch.arange(count, device=self.keys.device)) % size

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load a queue of another size too (the batch, and so the default size, changed): its newest keys stay."""
        old = state_dict.get(f"{prefix}keys")
        if old is not None and len(old) != len(self) and old.shape[1:] == self.keys.shape[1:]:
            twin = copy.deepcopy(self)
            other = Queue(len(old), old.shape[1], self.columns)
            other.load_state_dict({k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)})
            order = other.order()[-len(self) :]
            twin.pointer.zero_(), twin.count.zero_(), twin.born.fill_(-1), twin.ids.fill_(-1)
            named = {name: other.column(name)[order] for name in self.columns}
            twin.push(other.keys[order], other.ids[order], named)
            twin.born[: len(order)] = other.born[order]
            state_dict.update({prefix + k: v for k, v in twin.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def age(self, step: int) -> Tensor:
        """Steps since each key was pushed, oldest first, one number per filled row."""
        return (step - self.born[self.order()]).clamp(min=0)  # a change of devices counts steps anew
