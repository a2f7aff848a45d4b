from __future__ import annotations

import threading
import time

import pytest

from medssl.data.loading.prefetch import ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_items_come_in_order_and_all(threads):
    def slower_first(k):
        time.sleep(0.002 * (k % 3 == 0))
        return k

    with ahead(slower_first, range(50), threads) as items:
        assert list(items) == list(range(50))


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_made_while_the_last_one_is_used_but_not_more_than_asked(threads):
    made = []
    with ahead(lambda k: made.append(k) or k, range(10), threads) as items:
        assert next(items) == 0
        limit = time.monotonic() + 5
        while len(made) < 1 + threads and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.05)
        assert sorted(made) == list(range(1 + threads))
        assert list(items) == list(range(1, 10))


def test_an_error_comes_where_its_item_would_have_come():
    def make(k):
        if k == 2:
            raise ValueError("bad scan")
        return k

    with ahead(make, range(9), 3) as items:
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(ValueError, match="bad scan"):
            next(items)


def test_leaving_early_ends_the_threads():
    before = threading.active_count()
    with ahead(lambda k: k, iter(int, 1), 2) as items:
        next(items)
        assert threading.active_count() > before
    assert threading.active_count() == before
