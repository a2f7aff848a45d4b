from __future__ import annotations

import threading
import time

import pytest

from medssl.features.ahead import ahead


@pytest.mark.parametrize("most", [0, 1, 3])
def test_items_come_in_order_and_all(most):
    with ahead(range(50), most) as items:
        assert list(items) == list(range(50))


def test_items_are_made_while_the_last_one_is_used_but_not_more_than_asked():
    made = []

    def source():
        for k in range(10):
            made.append(k)
            yield k

    with ahead(source(), 2) as items:
        assert next(items) == 0
        limit = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 3
        assert list(items) == list(range(1, 10))


def test_an_error_comes_where_its_item_would_have_come():
    def source():
        yield 1
        raise ValueError("bad scan")

    with ahead(source(), 2) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="bad scan"):
            next(items)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    with ahead(iter(int, 1), 2) as items:
        next(items)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
