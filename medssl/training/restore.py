"""Whether the state in a checkpoint fits the training that it is to continue, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medssl.errors import UserError

_REMEDY = "take it out of the folder, and the run continues from the checkpoint before"


def is_misfit(problem: BaseException) -> bool:
    """Whether an error that came up while a checkpoint was taken up says that its content has another form."""
    kinds = (KeyError, TypeError, ValueError, AttributeError, IndexError)
    return isinstance(problem, kinds) and not isinstance(problem, UserError)


def misfit(path: Path, problem: BaseException) -> UserError:
    """The refusal of a checkpoint in which something has another form than this training needs."""
    return UserError(f"{path} cannot be continued from ({' '.join(str(problem).split())[:120]}); {_REMEDY}")


def refuse_misfit(state: Mapping[str, Any], module: nn.Module, optimizers: Sequence[Optimizer], path: Path) -> None:
    """UserError naming the file and the part: weights of another network, numbers that are none, moments that misfit.

    optimizers: as the training makes them. Sharded weights are not compared: their strategy has loaded them by then.
    """
    if "state_dict" in state:
        _weights(state["state_dict"], module, path)
    saved = state["optimizer_states"]
    if len(saved) != len(optimizers):
        raise UserError(f"{path} holds {len(saved)} optimisers, but this training has {len(optimizers)}; {_REMEDY}")
    for number, (optimum, optimizer) in enumerate(zip(saved, optimizers, strict=True)):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        _moments(optimum, parameters, f"{path}: optimizer_states[{number}]")


def same_form(given: Any, wanted: Any, path: Path, place: str = "loops") -> None:
    """UserError where nested counters lack a key that ``wanted`` has, or hold another kind of value."""
    if isinstance(wanted, Mapping):
        if not isinstance(given, Mapping):
            raise UserError(f"{path}: {place} is no mapping of counters; {_REMEDY}")
        for key, value in wanted.items():
            if key not in given:
                raise UserError(f"{path}: {place} lacks the key '{key}'; {_REMEDY}")
            same_form(given[key], value, path, f"{place}.{key}")
    elif isinstance(wanted, int) and (not isinstance(given, int) or given < 0):
        raise UserError(f"{path}: {place} is {given!r:.40}, but a count is needed; {_REMEDY}")


def _weights(given: Mapping[str, Tensor], module: nn.Module, path: Path) -> None:
    here = module.state_dict()
    for name in (*here, *given):
        if name not in given or name not in here:
            lacks = "lacks" if name not in given else "holds"
            raise UserError(f"{path} belongs to another method or encoder: it {lacks} '{name}'; {_REMEDY}")
        if given[name].shape != here[name].shape:
            raise UserError(
                f"{path} belongs to another method or encoder: '{name}' has shape {tuple(given[name].shape)} there, "
                f"{tuple(here[name].shape)} here; {_REMEDY}"
            )
    for name, _ in module.named_parameters():
        if not bool(torch.isfinite(given[name]).all()):
            raise UserError(f"{path}: the weights '{name}' hold NaN or Inf; {_REMEDY}")


def _moments(optimum: Mapping[str, Any], parameters: Sequence[Tensor], place: str) -> None:
    """What an optimiser remembers of every parameter has its shape and is finite."""
    groups, slots = optimum.get("param_groups"), optimum.get("state")
    if not isinstance(groups, list) or not isinstance(slots, Mapping):
        raise UserError(f"{place} has no param_groups and state; {_REMEDY}")
    listed = [number for group in groups if isinstance(group, Mapping) for number in group.get("params", ())]
    if len(listed) != len(parameters):
        raise UserError(f"{place} is of {len(listed)} parameters, but there are {len(parameters)}; {_REMEDY}")
    for number, parameter in zip(listed, parameters, strict=True):
        slot = slots.get(number, {})
        for name, value in slot.items() if isinstance(slot, Mapping) else [("", slot)]:
            if value is None or isinstance(value, bool | int | float):
                continue
            if not isinstance(value, Tensor) or (value.ndim and value.shape != parameter.shape):
                raise UserError(f"{place}: {name or 'a slot'} of parameter {number} has another shape; {_REMEDY}")
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise UserError(f"{place}: {name} of parameter {number} holds NaN or Inf; {_REMEDY}")
