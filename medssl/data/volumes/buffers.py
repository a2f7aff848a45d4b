"""Memory that is used again: to get and clear fresh pages costs as much as what is written into them."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class _Loan:
    """Lends a room as an array, which holds this object, and so do all its views and tensors."""

    def __init__(self, room: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.room = room
        data = (room.ctypes.data, False)
        self.__array_interface__ = {"version": 3, "data": data, "shape": shape, "typestr": dtype.str}


class Rooms:
    """Arrays over memory that is used again once nobody holds what was in it; up to ``most`` rooms are kept."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._kept: list[tuple[np.ndarray, weakref.ref[_Loan]]] = []

    def __call__(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> np.ndarray:
        """An array with anything in it."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        with self._lock:
            free = [k for k, (_, user) in enumerate(self._kept) if user() is None]
            fits = [k for k in free if len(self._kept[k][0]) == size]
            room = self._kept[fits[0]][0] if fits else np.empty(size, np.uint8)
            user = _Loan(room, tuple(shape), kind)
            if fits:
                self._kept[fits[0]] = room, weakref.ref(user)
            else:
                self._kept = [kept for k, kept in enumerate(self._kept) if k not in free]
                if len(self._kept) < self.most:
                    self._kept.append((room, weakref.ref(user)))
        return np.asarray(user)
