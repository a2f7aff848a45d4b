"""Entries of the cache as tensors over memory maps that stay open, and what is said of many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medssl.data.loading.entry_file import is_intact, layout
from medssl.errors import VolumeError

if TYPE_CHECKING:
    from torch import Tensor

_LISTED = 10
"""Bad scans that a message names before it only counts."""
_LETTERS = 1000
"""Letters that they may take together, beyond the first."""


class BuildCounts(NamedTuple):
    """Entries written by this build, and entries that were there already."""

    built: int
    present: int


class CacheUsage(NamedTuple):
    """Finished entries, the bytes of all files, and leftovers of killed processes."""

    entries: int
    bytes: int
    temporaries: int


def same_shape(shapes: Iterable[tuple[int, int, int, int]], names: Sequence[str]) -> tuple[int, int, int, int]:
    """The one shape of all scans. Errors: VolumeError naming two that differ, or where there is no scan."""
    first: tuple[int, int, int, int] | None = None
    for k, shape in enumerate(shapes):
        if first is None:
            first = shape
        elif shape[0] != first[0]:
            raise VolumeError(
                f"scans have different numbers of channels: {names[0]} has {first[0]}, {names[k]} "
                f"has {shape[0]}; give every scan the same image columns"
            )
        elif shape != first:
            raise VolumeError(
                f"scans have different shapes after preprocessing: {names[0]} is {by(first[1:])}, {names[k]} is "
                f"{by(shape[1:])} voxels; set preprocessing.shape (and preprocessing.spacing where voxel sizes "
                "differ), such as the larger of the two"
            )
    if first is None:
        raise VolumeError("there is no scan, so no shape; give at least one row with an image")
    return first


def by(shape: Sequence[int]) -> str:
    """6 x 7 x 8."""
    return " x ".join(str(n) for n in shape)


class MappedEntries:
    """Entries as tensors over the system's page cache, which all processes share; nothing is copied.

    The last ``most`` maps stay open, so that an entry is opened, checked and paged in once per process: its numbers are
    compared with its checksum when it is opened, before anybody sees them. The maps are private: what a caller writes
    into a tensor never reaches the file, and an entry that was written to is mapped anew when it is asked for again.
    """

    def __init__(self, path: Callable[[str], Path], dtype: str = "float32", most: int = 8192) -> None:
        self.path, self.dtype, self.most = path, dtype, most
        self._held: dict[str, tuple[Tensor, int]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_held": {}}

    def tensor(self, key: str) -> Tensor | None:
        """Values (C, D, H, W) of the entry ``path(key)`` in its own type; None where it is absent or damaged."""
        held = self._held.get(key)
        if held is None or held[0]._version != held[1]:
            held = self._opened(self.path(key))
            if held is None:
                return None
            if len(self._held) >= self.most:
                for old in list(self._held)[: max(1, self.most // 8)]:  # threads may do the same at the same time
                    self._held.pop(old, None)
            self._held[key] = held
        return held[0].view(held[0].shape)

    def _opened(self, entry: Path) -> tuple[Tensor, int] | None:
        import torch  # here, so that a cache is filled without it

        found = layout(entry, self.dtype)
        if found is None:
            return None
        try:
            storage = torch.UntypedStorage.from_file(str(entry), False, found.end)
        except (OSError, RuntimeError):  # removed in between
            return None
        empty = torch.empty(0, dtype=getattr(torch, self.dtype))
        x = empty.set_(storage, found.offset // found.dtype.itemsize, found.shape)  # type: ignore[call-overload]
        return (x, x._version) if is_intact(x.numpy(), found) else None


def usual_shape(
    shapes: Sequence[tuple[int, int, int, int]], images: Sequence[Path | str]
) -> tuple[tuple[int, int, int, int], dict[int, str]]:
    """The shape (C, D, H, W) of most scans, and what is wrong with those that have another one (place -> sentence)."""
    usual = Counter(shapes).most_common(1)[0][0]
    return usual, {
        k: f"{images[k]} has {by(shape)} channels and voxels after preprocessing, but most scans have {by(usual)}; set "
        "preprocessing.spacing and .shape, or drop it"
        for k, shape in enumerate(shapes)
        if shape != usual
    }


def few_bad(bad: Sequence[str], scans: int) -> str:
    """What is said of bad scans: all of a few, else the first ones and how many more there are."""
    lengths = accumulate(map(len, bad))
    listed = max(1, sum(length <= _LETTERS for length in islice(lengths, _LISTED)))
    more = f"; and {len(bad) - listed} more" if len(bad) > listed else ""
    return f"{len(bad)} of {scans} scans cannot be used: {'; '.join(bad[:listed])}{more}"
