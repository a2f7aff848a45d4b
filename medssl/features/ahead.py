"""An iterator whose next items are made by a thread while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
_END = object()


@contextmanager
def ahead(items: Iterable[Item], most: int) -> Iterator[Iterator[Item]]:
    """Iterate over ``items``, up to ``most`` of them made in advance by a thread (0: none, no thread).

    What the thread raises is raised where its item would have come. Leaving the context ends the thread.
    """
    if most < 1:
        yield iter(items)
        return
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    places = threading.Semaphore(most - 1)
    stop = threading.Event()

    def make() -> None:
        try:
            for item in items:
                made.put((item, None))
                while not places.acquire(timeout=0.1):
                    if stop.is_set():
                        return
            made.put((_END, None))
        except BaseException as error:  # raised again by the reader
            made.put((_END, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield _taken(made, places)
    finally:
        stop.set()
        thread.join()


def _taken(made: queue.SimpleQueue[Any], places: threading.Semaphore) -> Iterator[Any]:
    while True:
        item, error = made.get()
        places.release()
        if error is not None:
            raise error
        if item is _END:
            return
        yield item
