"""What can be set about a training; recipes are validated against these records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from medssl.checks import (
    Count,
    CountOrZero,
    Flag,
    Listed,
    NotNegative,
    Part,
    Positive,
    Processes,
    Seconds,
    Seed,
    Share,
    Text,
)

_STRICT: dict[str, Any] = {"extra": "forbid"}  # read by pydantic: an unknown key is an error


@dataclass(frozen=True)
class PlayerOptions:
    """How one player of a game differs from the rest: its learning rate, and how often it is stepped."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    lr: Positive | None = None
    every: Count = 1


@dataclass(frozen=True)
class Optimisation:
    """Optimiser and schedule. The learning rate written here is the one that is used: nothing is rescaled.

    weight_decay is never applied to norms and biases (1-D parameters). schedule: "cosine" (to final_lr),
    "onecycle" (from 4 % of lr up to lr for ``warmup`` epochs, 0: for 30 % of the training, then cosine to final_lr),
    "step" (x ``gamma`` every ``every_epochs``), "constant". warmup: epochs of linear warm-up (of the others).
    final_weight_decay: the weight decay at the end, reached from ``weight_decay`` by a cosine; None where it stays.
    A recipe may also name a preset, ``optim: {preset: ywa | isbi | vit | lars}`` (``training/presets.py``), whose
    keys stand in the resolved recipe.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: Literal["adamw", "adam", "sgd", "lars"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 5e-5
    betas: Annotated[tuple[Share, Share], Listed(2, 2)] = (0.9, 0.999)
    momentum: Share = 0.9
    schedule: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    warmup: NotNegative = 0.0
    final_lr: NotNegative = 0.0
    gamma: Positive = 0.9
    every_epochs: Count = 10
    final_weight_decay: NotNegative | None = None
    players: Mapping[str, PlayerOptions] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainerOptions:
    """How long and on what. accumulate: batches per optimiser step. clip: gradient norm limit, None for none.

    threads: compute threads on the CPU, None for torch's choice; a fixed number gives the same bits on machines
    with more cores, and 1 with data.workers=1 is the steadier choice where other programs share two cores.
    checkpoint_steps: optimiser steps between checkpoints (an epoch's end always makes one). deterministic:
    the same bits on every run of the same machine and number of threads.
    devices, nodes: data.batch_size counts per device, so a step sees nodes * devices batches. strategy: "auto", "ddp",
    "fsdp" (weights of a vit in shards), or a name that Lightning knows. sync_batchnorm: batch norm over all GPUs.
    timeout: seconds that a process waits for the others before it gives up.
    precision: "auto" is bf16-mixed on GPUs and CPUs that compute in bfloat16 (``training/device.py``), else 32-true;
    losses are computed in float32 always. memory_format: of volumes, "auto" is channels_last where it was measured or
    is known to help. A run keeps what was decided in its recipe.yaml, and a resumed one does not decide again.
    compile: let torch.compile translate the encoder (minutes at the start; the same numbers only up to rounding).
    micro_batch: scans that the encoder sees at a time, None for all of data.batch_size. The loss, and its gradient,
    is that of the whole batch (gradient caching), in the memory of one micro-batch and 4/3 of the time; for methods
    whose loss is a function of the embeddings. micro_norm: batch norm of the encoder takes the statistics of a
    micro-batch and counts each once ("batch"), or its running statistics, which then stay as they are ("frozen").
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    epochs: Count = 30
    seed: Seed = 0
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Processes | Literal["auto"] = "auto"
    nodes: Processes = 1
    strategy: Annotated[str, Text("auto, ddp, fsdp or a name that Lightning knows")] = "auto"
    sync_batchnorm: Flag = False
    timeout: Seconds = 1800.0
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: Flag = False
    threads: Processes | None = None
    accumulate: Count = 1
    micro_batch: Count | None = None
    micro_norm: Literal["batch", "frozen"] = "batch"
    clip: Positive | None = 3.0
    checkpoint_steps: Count | None = None
    keep_checkpoints: Count = 2
    log_steps: Count = 5
    deterministic: Flag = True
    tensorboard: Flag = False


@dataclass(frozen=True)
class MonitorOptions:
    """What is watched while training. every: epochs between probes (0: never, but after the last epoch).

    scans: at most so many training scans are embedded for a probe; holdout: the share of their subjects that
    the probe is tested on (never rows outside the training split).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    every: CountOrZero = 5
    scans: Count = 1000
    holdout: Part = 0.25
    map: Flag = True
