from __future__ import annotations

from collections import deque

import pytest
import torch

from medssl.errors import UserError
from medssl.memory import Queue


def push_numbers(queue, first, n, step=0):
    numbers = torch.arange(first, first + n)
    queue.push(numbers[:, None].float().repeat(1, queue.keys.shape[1]), numbers, {"age": numbers / 2}, step)


@pytest.mark.parametrize("batches", [[3], [2, 2], [4, 4, 4], [3, 5, 2, 4, 1], [5, 5], [7, 3], [12], [1] * 11])
def test_after_any_pushes_it_holds_the_last_keys_in_order(batches):
    queue, expected, first = Queue(5, 2, ["age"]), deque(maxlen=5), 0
    for step, n in enumerate(batches):
        push_numbers(queue, first, n, step)
        expected.extend((first + i, step) for i in range(n))
        first += n
    order = queue.order()
    assert queue.keys[order, 0].tolist() == [float(k) for k, _ in expected]
    assert queue.ids[order].tolist() == [k for k, _ in expected]
    assert queue.column("age")[order].tolist() == [k / 2 for k, _ in expected]
    assert queue.born[order].tolist() == [s for _, s in expected]
    assert int(queue.count) == len(expected) == int(queue.filled.sum())
    assert int(queue.pointer) == first % 5


def test_age_counts_steps_since_each_key_was_pushed():
    queue = Queue(4, 1, ["age"])
    push_numbers(queue, 0, 3, step=10)
    push_numbers(queue, 3, 3, step=12)
    assert queue.age(15).tolist() == [5, 3, 3, 3]
    assert queue.age(15).float().mean() == 3.5


def test_empty_rows_say_so():
    queue = Queue(4, 2, ["age"])
    push_numbers(queue, 0, 1)
    assert queue.filled.tolist() == [True, False, False, False]
    assert queue.ids.tolist() == [0, -1, -1, -1]
    assert queue.column("age").isnan().tolist() == [False, True, True, True]
    assert (queue.keys[1:] == 0).all()
    assert len(queue) == 4


def test_a_seed_fills_it_with_unit_rows_without_touching_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a, b = Queue(6, 3, seed=1), Queue(6, 3, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a.keys, b.keys)
    torch.testing.assert_close(a.keys.norm(dim=1), torch.ones(6))
    assert not a.filled.any()


def test_stored_keys_have_no_gradient_and_are_float32():
    queue = Queue(4, 2)
    z = torch.randn(2, 2, requires_grad=True)
    queue.push((z * 2).bfloat16(), torch.tensor([0, 1]))
    assert not queue.keys.requires_grad
    assert queue.keys.dtype == torch.float32
    torch.testing.assert_close(queue.keys[:2], (z * 2).bfloat16().float().detach())


def test_the_state_comes_back_bit_for_bit_and_goes_on_alike():
    queue = Queue(5, 2, ["age"])
    push_numbers(queue, 0, 7, step=3)
    other = Queue(5, 2, ["age"])
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        push_numbers(q, 7, 4, step=4)
    assert set(queue.state_dict()) == {"keys", "ids", "born", "column_age", "pointer", "count"}
    for name, value in queue.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_wrong_sizes_and_columns_are_named():
    with pytest.raises(UserError, match="0 keys"):
        Queue(0, 2)
    queue = Queue(4, 2, ["age"])
    with pytest.raises(UserError, match="'age'"):
        queue.push(torch.zeros(1, 2), torch.zeros(1), {})
    with pytest.raises(UserError, match="'site'"):
        queue.column("site")


@pytest.mark.parametrize(("pushed", "size"), [(9, 3), (9, 8), (2, 3), (0, 4)])
def test_a_queue_of_another_size_loads_the_newest_keys(pushed: int, size: int):
    old, new = Queue(5, 2, ["age"]), Queue(size, 2, ["age"])
    for number in range(pushed):
        push_numbers(old, number, 1, step=number)
    push_numbers(new, 100, 2, step=100)
    torch.nn.Sequential(new).load_state_dict(torch.nn.Sequential(old).state_dict())
    kept = list(range(pushed))[-min(5, size) :]
    order = new.order()
    assert new.ids[order].tolist() == new.born[order].tolist() == kept
    assert new.keys[order, 0].tolist() == [float(k) for k in kept]
    assert new.column("age")[order].tolist() == [k / 2 for k in kept]
    assert int(new.filled.sum()) == int(new.count) == len(kept)
    push_numbers(new, 50, 1, step=50)
    assert new.ids[new.order()].tolist() == [*kept, 50][-size:]
