"""Items that are made by threads while the last one is used, and memory for them that is used again."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Key = TypeVar("Key")
Item = TypeVar("Item")


@contextmanager
def ahead(make: Callable[[Key], Item], keys: Iterable[Key], threads: int) -> Iterator[Iterator[Item]]:
    """Iterate over ``make(key)`` of all keys in order, while ``threads`` threads make as many of the next ones.

    What ``make`` raises is raised where its item would have come. Leaving the context ends the threads, once they have
    finished what they are at.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield _in_order(pool, make, keys, threads)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, make: Callable[[Key], Item], keys: Iterable[Key], threads: int
) -> Iterator[Item]:
    waiting: deque[Future[Item]] = deque()
    for key in keys:
        waiting.append(pool.submit(make, key))
        if len(waiting) > threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Rooms:
    """Memory for batches of float32, used again once nobody holds what was in it.

    Fresh memory costs as much as the copy into it. pin: page-locked memory for a GPU, which torch itself uses again.
    most: rooms that are kept.
    """

    def __init__(self, pin: bool = False, most: int = 4) -> None:
        self.pin, self.most = pin, most
        self._lock = threading.Lock()
        self._kept: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """Room of this shape, with anything in it."""
        if self.pin:
            return torch.empty(tuple(shape), pin_memory=True)
        with self._lock:
            free = [k for k, (room, user) in enumerate(self._kept) if user() is None]
            fits = [k for k in free if self._kept[k][0].shape == tuple(shape)]
            room = self._kept[fits[0]][0] if fits else np.empty(tuple(shape), np.float32)
            user = room.view()  # a tensor, its views and arrays over it all hold this object, and nothing else does
            if fits:
                self._kept[fits[0]] = room, weakref.ref(user)
            else:
                self._kept = [kept for k, kept in enumerate(self._kept) if k not in free]
                if len(self._kept) < self.most:
                    self._kept.append((room, weakref.ref(user)))
            return torch.from_numpy(user)
