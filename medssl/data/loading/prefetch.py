"""Items that are made by threads while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

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
