"""What stands around a training: batches, clean embedding, monitors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl.methods.base import Method
from medssl.types import Batch, Progress, Step


@dataclass(frozen=True)
class Hooks:
    """What stands around a training: batches, clean embedding, monitors.

    loader(batches per process's rank, processes, before_epoch) makes the training loader.
    embed(f, device) runs f over all training rows without augmentation, in eval mode; processes share the work.
    finish(item) sees every training batch once it is on the device, and returns what the method gets. late: it makes
    the views there, so batches come with whole volumes in place of views.
    on_step / on_epoch receive records, rewind(step) drops those after a checkpoint; none touches the training.
    roles: what every view is, as the view maker says.
    memory() is what they remember, plain values and tensors, and travels in checkpoints; recall(memory) takes it back.
    """

    loader: Callable[[int, int, Callable[[int], np.ndarray | None]], Any]
    embed: Callable[[Callable[[Tensor], Tensor], torch.device], tuple[Tensor, Tensor]]
    scan_weights: np.ndarray | None
    on_step: Callable[[Mapping[str, float], Step, Batch], None]
    on_epoch: Callable[[Method, Progress, torch.device], None]
    rewind: Callable[[int], None]
    progress: Callable[[int, int, Mapping[str, float]], None]
    finish: Callable[[dict[str, Any]], dict[str, Any]] = lambda item: item
    late: bool = False
    memory: Callable[[], dict[str, Any]] = dict
    recall: Callable[[Mapping[str, Any]], None] = lambda memory: None
    roles: tuple[str, ...] = ()
