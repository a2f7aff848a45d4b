"""What is said where another process of a training is gone."""

from __future__ import annotations

from pathlib import Path

from medssl.training.checkpoints import list_checkpoints


def is_lost(problem: BaseException) -> bool:
    """Whether an error says that the exchange with another process broke."""
    words = ("gloo", "NCCL", "peer", "Timed out", "process group", "ProcessGroup")
    return isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)


def lost(run: Path, timeout: float) -> str:
    """One sentence after another process was lost, and how to go on from what ``run`` holds."""
    kept = list_checkpoints(run / "checkpoints")
    remedy = f"continue with `medssl pretrain --resume {run}`" if kept else "there is no checkpoint yet, so start again"
    return (
        f"another process of this training ended, or did not answer within trainer.timeout={timeout:g} s; what it said "
        f"stands above or in its own log; {remedy}"
    )
