from __future__ import annotations

import numpy as np
import torch

from medssl.data.volumes.buffers import Rooms


def place(x: np.ndarray) -> int:
    return int(x.__array_interface__["data"][0])


def test_memory_is_used_again_only_when_nobody_holds_it():
    room = Rooms(4)
    first = room((2, 3))
    first.fill(1)
    corner, begin = first[None][0, 0, :1], place(first)
    del first
    other = room((2, 3))
    other.fill(2)
    assert place(other) != begin
    assert corner.tolist() == [1], "a view of a view is still there"
    tensor = torch.from_numpy(corner)[:]
    del corner
    assert place(room((2, 3))) != begin, "a tensor over it is still there"
    array = tensor.numpy()[:]
    del tensor
    assert place(room((2, 3))) != begin, "an array over the tensor is still there"
    del array
    assert place(room((3, 2))) == begin


def test_memory_that_does_not_fit_or_is_too_much_is_let_go():
    room = Rooms(2)
    held = [room((4,)) for _ in range(5)]
    assert len({place(x) for x in held}) == 5
    places = {place(x) for x in held[:2]}
    del held
    assert len(room._kept) == 2
    assert place(room((4,))) in places
    again = room((5,), np.uint8)
    assert (again.shape, again.dtype) == ((5,), np.uint8)
    assert len(room._kept) == 1
