"""What this machine computes well: precision, memory format and torch.compile, decided once per run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from medssl.errors import UserError
from medssl.training.options import TrainerOptions

Processor = Literal["gpu-bf16", "gpu", "cpu-amx", "cpu-bf16", "cpu"]


def processor(accelerator: str) -> Processor:
    """What the first device of an accelerator ("auto", "cpu", "gpu") can do with bfloat16."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return "gpu-bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "gpu"
    if accelerator == "gpu" or torch.backends.mps.is_available():
        return "gpu"
    if torch.cpu._is_amx_tile_supported():
        return "cpu-amx"
    return "cpu-bf16" if torch.cpu._is_avx512_bf16_supported() else "cpu"


def settle(options: TrainerOptions, volumes: bool = True) -> TrainerOptions:
    """The options with every "auto" about numbers decided, by a rule and not by a stop-watch, so that it repeats.

    bfloat16: GPUs with bfloat16 units, CPUs with AMX or avx512_bf16, and only for volumes (the perceptrons on tables
    gain nothing). channels_last: where bfloat16 units read it without a copy (GPU, AMX); with avx512_bf16 oneDNN
    blocks channels by itself, and channels_last was slower (``benchmarks/speed/step.py``).
    """
    place = processor(options.accelerator) if volumes else "cpu"
    precision, form = options.precision, options.memory_format
    if precision == "auto":
        precision = "bf16-mixed" if place in ("gpu-bf16", "cpu-amx", "cpu-bf16") else "32-true"
    if form == "auto":
        half = precision != "32-true" and place in ("gpu-bf16", "gpu", "cpu-amx")
        form = "channels_last" if half else "contiguous"
    return replace(options, precision=precision, memory_format=form)


def refuse_machine(options: TrainerOptions) -> None:
    """UserError for what this machine does not have or does not know, while nothing is read or written yet."""
    gpu = torch.cuda.is_available()
    if options.accelerator == "gpu" and not (gpu or torch.backends.mps.is_available()):
        raise UserError("trainer.accelerator=gpu, but torch finds no GPU here; set trainer.accelerator=auto or cpu")
    if options.sync_batchnorm and (options.accelerator == "cpu" or not gpu):
        raise UserError(
            "trainer.sync_batchnorm=true works on GPUs only; leave it out, or use encoder.norm=group, which needs "
            "no other scan"
        )
    if options.strategy not in ("auto", "ddp", "fsdp"):
        from medssl.training.hardware.strategies import known_strategies  # Lightning is slow to import

        if options.strategy not in known_strategies():
            raise UserError(
                f"trainer.strategy={options.strategy} is unknown; use auto, ddp or fsdp, or a name that Lightning knows"
            )
    if options.compile:
        _try_compiler(torch.device("cuda" if gpu and options.accelerator != "cpu" else "cpu"))


def announce(asked: TrainerOptions, settled: TrainerOptions, batch: int, quiet: bool) -> None:
    """Tell a person who starts a training, on stderr, what of these choices matters; ``batch``: scans per process."""
    if not quiet and asked.precision == "auto" and settled.precision != "32-true":
        said = f"precision {settled.precision}, chosen for this processor; trainer.precision=32-true undoes it"
        print(said, file=sys.stderr)
    if not quiet and settled.compile:
        print("compiling the encoder: the first steps take minutes, which pays in long trainings", file=sys.stderr)
    if not quiet and settled.micro_batch is not None and settled.micro_batch >= batch:
        print(
            f"trainer.micro_batch={settled.micro_batch} does not cut batches of {batch} scans, so it saves no memory "
            f"and costs time; leave it out, or set it below data.batch_size",
            file=sys.stderr,
        )


def lay_out_(module: nn.Module, form: str) -> nn.Module:
    """Kernels of 3D convolutions in a memory format; values and names stay. Returns ``module``."""
    if form == "channels_last":
        for p in module.parameters():
            p.data = laid_out(p.data, form)
    return module


def laid_out(x: Tensor, form: str) -> Tensor:
    """A volume or kernel (N, C, D, H, W) in a memory format; anything else as it is."""
    return x.contiguous(memory_format=torch.channels_last_3d) if form == "channels_last" and x.ndim == 5 else x


@contextmanager
def compiled(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Run ``module`` through torch.compile meanwhile; UserError where it cannot be compiled."""
    if not wanted:
        yield
        return
    module.compile(dynamic=False)
    try:
        with _compiling(torch._dynamo.exc.TorchDynamoException):
            yield
    finally:
        module._compiled_call_impl = None


def _try_compiler(device: torch.device) -> None:
    """Compile one line, so that a missing compiler is a sentence at the start and not a page in the first step."""
    with _compiling(Exception):
        torch.compile(lambda x: (x * 2).relu() + 1, dynamic=False)(torch.ones(8, device=device))


@contextmanager
def _compiling(blamed: type[Exception]) -> Iterator[None]:
    """Such errors of torch's compilers, which are pages long, as one sentence."""
    try:
        yield
    except blamed as problem:
        reason = " ".join((str(problem).strip().splitlines() or [type(problem).__name__])[0].split())[:120]
        raise UserError(
            f"trainer.compile=true does not work here ({reason}); set trainer.compile=false, or install a C++ "
            f"compiler (g++)"
        ) from problem


def processes(options: TrainerOptions) -> int:
    """How many processes these options train with, one per device."""
    devices = options.devices
    if devices == "auto":
        on_gpus = options.accelerator != "cpu" and torch.cuda.is_available()
        devices = torch.cuda.device_count() if on_gpus else 1
    return options.nodes * devices
