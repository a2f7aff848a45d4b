"""Scans as training examples: cached volume -> views, addressed by (row, epoch, repeat)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from medssl.data.loading.batches import Draw, EpochBatches
from medssl.data.loading.cache import VolumeCache, lost
from medssl.data.loading.cache_entries import MappedEntries
from medssl.data.loading.entry_file import fault
from medssl.data.loading.prefetch import ahead
from medssl.data.volumes.buffers import Rooms
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import UserError

if TYPE_CHECKING:
    from medssl.views.base import MakesViews

Item = dict[str, Any]
"""{"views": list of (B, C, D, H, W), "index", "epoch", "repeat": (B,), "meta": {name: (B,)},
"target": {name: (B, ...)}}; index, epoch and repeat are those of the ``Draw``."""


class ScanDataset(Dataset[Item]):
    """Rows of a cohort as views; an item is a pure function of a draw and of the view maker's seed.

    images: one tuple of files per row (several files are channels). meta: column -> (scans,) tensor.
    maker None returns the preprocessed volume alone, as one view, through ``clean`` (what every view of the policy
    gets for sure, such as its z-score) where that is given. ``late``: items hold the volume as their only view,
    and ``finish`` makes the views of a whole batch where the batch is by then (a GPU).
    keys: of the entries in the cache, "" where not known (``VolumeCache.prepare``); a key, once known, stays for the
    life of the dataset, so that a scan that changes during a training is noticed by the next one.
    """

    def __init__(
        self,
        images: Sequence[tuple[Path | str, ...]],
        cache: VolumeCache,
        preprocessing: Preprocessing,
        meta: Mapping[str, Tensor],
        maker: MakesViews | None = None,
        clean: Callable[[Tensor], Tensor] | None = None,
        keys: Sequence[str] | None = None,
        *,
        late: bool = False,
    ) -> None:
        self.images, self.cache, self.preprocessing = list(images), cache, preprocessing
        self.meta, self.maker, self.clean, self.late = dict(meta), maker, clean, late
        self.keys = [""] * len(self.images) if keys is None else list(keys)
        self.entries = MappedEntries(cache.path, cache.dtype) if isinstance(cache, VolumeCache) else None

    def __len__(self) -> int:
        """Rows of the cohort table."""
        return len(self.images)

    def volume(self, row: int) -> Tensor:
        """The preprocessed volume (C, D, H, W) of a row, float32: the cache's own memory, to be read only."""
        if self.entries is None:  # another source of volumes
            return torch.from_numpy(np.array(self.cache.load(self.images[row], self.preprocessing)))
        key = self.keys[row] or self.cache.key(self.images[row], self.preprocessing)
        x = self.entries.tensor(key)
        if x is None:
            self.cache.load(self.images[row], self.preprocessing)
            key = self.cache.key(self.images[row], self.preprocessing)
            x = self.entries.tensor(key)
            if x is None:
                raise UserError(lost(self.cache.path(key), fault(self.cache.path(key), self.cache.dtype)))
        self.keys[row] = key
        return x if x.dtype == torch.float32 else _large_pages(x.shape).copy_(x)

    def plain(self) -> ScanDataset:
        """The same scans without augmentation."""
        twin = copy.copy(self)
        twin.maker = None
        return twin

    def _plain(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x if self.clean is None else self.clean(x),)

    def __getitem__(self, key: tuple[int, ...]) -> Item:
        """One scan: key is a ``Draw``, or (row, epoch) of a first one."""
        row, epoch, repeat = Draw(*key)
        x = self.volume(row)
        views: tuple[Tensor, ...]
        target: dict[str, Tensor]
        if self.maker is None:
            views, target = self._plain(x), {}
        elif self.late:
            views, target = (x,), self.maker.answers(epoch, row, repeat)
        else:
            views, target = self.maker(x, epoch, row, repeat)
        meta = {name: column[row] for name, column in self.meta.items()}
        key_of = {name: torch.tensor(n) for name, n in (("index", row), ("epoch", epoch), ("repeat", repeat))}
        return {"views": list(views), **key_of, "meta": meta, "target": target}

    def finish(self, item: Item) -> Item:
        """A collated batch of ``late`` items with its views instead of the volumes; another batch as it is."""
        if not self.late or self.maker is None:
            return item
        epochs, rows, repeats = (item[name].tolist() for name in ("epoch", "index", "repeat"))
        return {**item, "views": list(self.maker.batch(item["views"][0], epochs, rows, repeats))}


class TableDataset(ScanDataset):
    """Rows of a standardised table (scans, F) as examples: every "volume" is (1, F, 1, 1); the rest as above."""

    def __init__(
        self,
        values_NF: np.ndarray,
        meta: Mapping[str, Tensor],
        maker: MakesViews | None = None,
        clean: Callable[[Tensor], Tensor] | None = None,
        *,
        late: bool = False,
    ) -> None:
        super().__init__([()] * len(values_NF), VolumeCache(None), Preprocessing(), meta, maker, clean, late=late)
        self.values_NF = np.ascontiguousarray(values_NF, np.float32)

    def volume(self, row: int) -> Tensor:
        """The features of a row as (1, F, 1, 1) float32."""
        return torch.from_numpy(self.values_NF[row].copy()).reshape(1, -1, 1, 1)


class ResumableLoader:
    """All batches of a training in one pass; its state is the number of batches that were handed out.

    ``before_epoch(epoch)`` runs in the main process right before the first batch of every epoch is chosen and
    returns the sampling weights of the rows (scans,) or None. Views are made by ``workers`` processes, because that
    holds Python's lock; where volumes are only read (``late``, or no maker), it is by threads, at least one, which copy
    them once.
    """

    def __init__(
        self,
        dataset: ScanDataset,
        plan: EpochBatches,
        epochs: int,
        workers: int,
        before_epoch: Callable[[int], np.ndarray | None],
        pin_memory: bool = False,
    ) -> None:
        self.plan, self.epochs, self.before_epoch = plan, epochs, before_epoch
        self.handed_out = 0
        reads = dataset.late or dataset.maker is None
        self._threads = max(1, workers) if reads else 0
        self._read = _Reader(dataset, self._threads, pin_memory)
        self._running = ExitStack()
        self._queue: list[list[Draw]] = []
        self._loader: DataLoader[Item] = DataLoader(
            dataset,
            batch_sampler=_Pending(self._queue),
            num_workers=0 if reads else workers,
            persistent_workers=workers > 0 and not reads,
            pin_memory=pin_memory,
            collate_fn=collate,
        )

    def __len__(self) -> int:
        """Batches of the whole training."""
        return self.epochs * self.plan.per_epoch

    def __iter__(self) -> Iterator[Item]:
        """Batches from where the state stands."""
        while self.handed_out < len(self):
            epoch, offset = divmod(self.handed_out, self.plan.per_epoch)
            for item in self._made(self.plan.batches(epoch, self.before_epoch(epoch))[offset:]):
                self.handed_out += 1
                yield item

    def _made(self, chosen: list[list[Draw]]) -> Iterator[Item]:
        """The batches of these draws."""
        if self._threads:
            with self._running:
                yield from self._running.enter_context(ahead(self._read, chosen, self._threads))
        else:
            self._queue[:] = chosen
            yield from self._loader

    def close(self) -> None:
        """End threads and worker processes now; the collector of garbage would wait 5 s for each and kill it."""
        self._running.close()
        iterator, self._loader._iterator = self._loader._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, int]:
        """Position in the training, and the plan that it counts in."""
        return {"handed_out": self.handed_out, "joint": self.plan.joint, "per_epoch": self.plan.per_epoch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue after ``state``, which may count in batches of another number of processes."""
        now = {"joint": self.plan.joint, "per_epoch": self.plan.per_epoch}
        self.handed_out = self.plan.resumed(int(state["handed_out"]), now | dict(state))


class _Pending:
    """A batch sampler over a list that the loader refills before every epoch."""

    def __init__(self, queue: list[list[Draw]]) -> None:
        self.queue = queue

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(list(self.queue))

    def __len__(self) -> int:
        return len(self.queue)


class _Reader:
    """Makes the batch of some draws, by any thread."""

    def __init__(self, dataset: ScanDataset, threads: int, pin: bool = False) -> None:
        self.dataset, self.pin, self.rooms = dataset, pin, Rooms(threads + 2)

    def __call__(self, keys: Sequence[Draw]) -> Item:
        item = collate([self.dataset[key] for key in keys], self._room)
        return _pinned(item) if self.pin else item

    def _room(self, shape: Sequence[int]) -> Tensor:
        """Page-locked for a GPU (torch itself uses that again), else memory of an earlier batch."""
        return torch.empty(tuple(shape), pin_memory=True) if self.pin else torch.from_numpy(self.rooms(shape))


def _pinned(value: Any) -> Any:
    """All tensors of an item in page-locked memory."""
    if isinstance(value, dict):
        return {name: _pinned(part) for name, part in value.items()}
    return [_pinned(part) for part in value] if isinstance(value, list) else value.pin_memory()


def plain_batches(
    dataset: ScanDataset, batches: Iterable[np.ndarray], workers: int = 0
) -> AbstractContextManager[Iterator[Item]]:
    """Batches of these rows without augmentation (features, probes, clustering), by threads (at least one)."""
    threads = max(1, workers)
    return ahead(_Reader(dataset.plain(), threads), [[Draw(int(row), 0) for row in rows] for rows in batches], threads)


def collate(items: list[Item], room: Callable[[Sequence[int]], Tensor] | None = None) -> Item:
    """Items as one batch: what torch's own collation gives, with views copied once into ``room`` (large pages)."""
    rest: Item = default_collate([{k: v for k, v in item.items() if k != "views"} for item in items])
    views = zip(*(i["views"] for i in items), strict=True)
    return {"views": [_stacked(list(same), room or _large_pages) for same in views], **rest}


def _stacked(views: list[Tensor], room: Callable[[Sequence[int]], Tensor]) -> Tensor:
    """Views of all items (B, C, D, H, W), in shared memory where this is a worker process."""
    first = views[0]
    if get_worker_info() is not None or first.dtype != torch.float32:
        return torch.as_tensor(default_collate(views))
    return torch.stack(views, out=room((len(views), *first.shape)))


def _large_pages(shape: Sequence[int]) -> Tensor:
    """Room for float32 in large pages, as numpy asks for: a page fault every 4 KiB costs several times the copy."""
    return torch.from_numpy(np.empty(tuple(shape), np.float32))
