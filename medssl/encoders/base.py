"""The contract of every encoder, the choice of its norm, and the repair of batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.checks import Grid, check
from medssl.errors import RecipeError, UserError
from medssl.heads.blocks import groups_of


def mean_over_voxels(map_NE: Tensor) -> Tensor:
    """(N, E, d, h, w) -> (N, E), in float32 at least, also under autocast."""
    return map_NE.mean((2, 3, 4), dtype=torch.promote_types(map_NE.dtype, torch.float32))


class Encoder(nn.Module):
    """A network from volumes (N, C, D, H, W) to ``Features``; plain ``nn.Module``, deterministic in eval mode.

    dim: width E of ``pooled``. provides: which of "pooled", "map" and "tokens" it returns. spec: a JSON dict that
    ``build_encoder(**spec)`` turns into the same architecture again. smallest: least input size along D, H, W.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"pooled", "map"})

    def __init__(
        self,
        in_channels: int,
        dim: int,
        shape: Sequence[int] | None = None,
        smallest: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.dim = in_channels, dim
        self.smallest = (smallest,) * 3 if isinstance(smallest, int) else tuple(smallest)
        self.spec: dict[str, Any] = {}
        if shape is not None:
            self._check_size(check("shape", shape, Grid, RecipeError))

    def _check_size(self, shape: Sequence[int]) -> None:
        if any(s < least for s, least in zip(shape, self.smallest, strict=True)):
            raise RecipeError(
                f"{type(self).__name__} needs volumes of at least {self.smallest} voxels, but got {tuple(shape)}; "
                "set a larger data.preprocessing.shape, fewer stages (encoder.depth), or encoder.stem=small"
            )

    def accept(self, shape: Sequence[int]) -> None:
        """RecipeError where volumes of this size (D, H, W) cannot be given to this encoder; names a size that can."""
        self._check_size(shape)

    def check(self, x: Tensor) -> None:
        """RecipeError unless x is (N, in_channels, D, H, W) and large enough; the message names both."""
        if not isinstance(x, Tensor) or x.ndim != 5:
            given = f"shape {tuple(x.shape)}" if hasattr(x, "shape") else type(x).__name__
            raise RecipeError(
                f"{type(self).__name__} expects a torch tensor of volumes (N, {self.in_channels}, D, H, W), but got a "
                f"{type(x).__name__} of {given}; give one volume as torch.as_tensor(volume)[None, None]"
            )
        if x.shape[1] != self.in_channels:
            raise RecipeError(
                f"{type(self).__name__} expects volumes (N, {self.in_channels}, D, H, W), but got {tuple(x.shape)}; "
                "build the encoder with in_channels equal to the number of images per scan"
            )
        self._check_size(x.shape[2:])


def norm_name(kind: str, channels: Iterable[int]) -> str | tuple[str, dict[str, Any]]:
    """The norm as MONAI names it, one setting for layers of all these widths (groups must divide each)."""
    if kind == "group":
        return "group", {"num_groups": groups_of(*channels)}
    return ("instance", {"affine": True}) if kind == "instance" else kind


def init_cnn_(module: nn.Module) -> None:
    """Start a convolutional network: kaiming-normal fan-out weights (He 2015), norms at scale 1 and shift 0."""
    for m in module.modules():
        if isinstance(m, nn.Conv3d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, (_BatchNorm, nn.GroupNorm, nn.InstanceNorm3d)):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)


def recalibrate_(encoder: nn.Module, batches: Iterable[Tensor]) -> int:
    """Estimate batch-norm running statistics anew, as plain averages over clean batches; returns batches used.

    Running statistics are an exponential average over the augmented batches of the training, with weights that
    have since moved; when batches are small they can be so wrong that features explode in eval mode. Here every
    norm is reset and sees each batch (N, C, D, H, W) once, in order, each with the same weight (momentum None),
    while everything else (dropout) stays in eval mode. Same weights and batches, same bits. Batches of one scan
    are skipped; fewer than one usable batch is a UserError and leaves everything as it was. Without batch norm
    the batches are not even read. The mode (train or eval) of every layer is kept. (Precise BN, Wu 2021.)
    """
    norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    modes = {m: m.training for m in encoder.modules()}
    momenta = [m.momentum for m in norms]
    before = [{k: v.clone() for k, v in m.named_buffers()} for m in norms]
    used, device = 0, norms[0].get_buffer("running_mean").device
    try:
        encoder.eval()
        for m in norms:
            m.reset_running_stats()
            m.momentum = None
            m.train()
        with torch.no_grad():
            for x in batches:
                if x.shape[0] > 1:
                    encoder(x.to(device))
                    used += 1
        if not used:
            raise UserError("batch-norm statistics need at least one batch of 2 scans or more, but none was given")
    except BaseException:
        for m, buffers in zip(norms, before, strict=True):
            for name, old in buffers.items():
                m.get_buffer(name).copy_(old)
        raise
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return used
