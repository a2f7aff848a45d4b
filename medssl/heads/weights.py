"""Weights on disk: one safetensors file with a JSON card in its metadata, deterministic and written atomically."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from medssl.documents.json_file import parse_json
from medssl.documents.shape import checked
from medssl.errors import UserError
from medssl.files import write_atomic

_SUMS = "sha256"
"""Key of a card for the checksums of the card itself and of the weights; ``read_weights`` takes it out again."""


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and statistics on the CPU, by name."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, types, shapes and bytes, in order of names."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def write_weights(path: Path, weights: dict[str, Tensor], key: str, card: Mapping[str, Any]) -> None:
    """Write weights and card (under the metadata name ``key``) with their checksums; same input, same bytes.

    UserError: the card holds something that is not JSON (NaN, an object), or the file cannot be written.
    """
    try:
        sums = {"card": _checksum(card), "weights": digest_of(weights)}
        text = _plain({**card, _SUMS: sums})
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: the card is not plain JSON ({error}); use text, numbers, lists and null") from error
    data = safetensors.torch.save(weights, metadata={key: text})
    write_atomic(path, data)


def read_weights(path: Path, key: str, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The card under ``key`` and the weights (empty where ``tensors`` is False, and then not read).

    UserError naming the file: missing, damaged (by its checksums, which files of an older medssl lack) or truncated,
    no such card, or a card that is not a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if not os.access(path, os.R_OK):  # of which the library says that it is not there
        raise UserError(f"{path} may not be read (permission denied); change its permissions")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in (file.keys() if tensors else ())}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: is no complete safetensors file ({error}); copy or write it again") from error
    if key not in metadata:
        raise UserError(f"{path}: holds weights but no {key}, so its architecture is unknown; use a file medssl wrote")
    where = f"{path}: its {key}"
    content = parse_json(metadata[key], where, "write the file again", lines=False)
    card = checked(content, dict[str, Any], where, "write the file again")
    if (sums := card.pop(_SUMS, None)) is not None:
        now = {"card": _checksum(card)} | ({"weights": digest_of(weights)} if tensors else {})
        for part, checksum in now.items():
            if not isinstance(sums, Mapping) or sums.get(part) != checksum:
                raise UserError(f"{path} is damaged: the checksum of its {part} is wrong; copy or write it again")
    return card, weights


def _plain(card: Mapping[str, Any]) -> str:
    """A card as JSON, the same text for the same content."""
    return json.dumps(card, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _checksum(card: Mapping[str, Any]) -> str:
    return hashlib.sha256(_plain(card).encode("utf-8", "surrogatepass")).hexdigest()


def fill(module: nn.Module, weights: Mapping[str, Tensor], path: Path, what: str) -> nn.Module:
    """Load weights strictly and switch to eval mode; UserError where names or shapes differ."""
    try:
        module.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        detail = " ".join((lines[1] if len(lines) > 1 else lines[0]).split())
        raise UserError(
            f"{path}: its weights do not fit the {what} that its card names, so they are of another architecture "
            f"({detail[:160]})"
        ) from error
    return module.eval()
