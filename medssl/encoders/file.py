"""The file of a trained encoder: weights as safetensors, and a card in JSON that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

import medssl
from medssl.documents.shape import checked
from medssl.encoders import build_encoder
from medssl.errors import RecipeError, UserError
from medssl.heads.weights import digest_of, fill, read_weights, weights_of, write_weights

CARD_VERSION = 1
"""Raised when an older medssl could misread a card."""

_KEY = "medssl_card"
_NAME = "encoder.safetensors"


class _Spec(TypedDict):
    name: str


class _Source(TypedDict):
    path: str


class _Data(TypedDict, total=False):
    manifest: str | None
    manifests: list[_Source]
    cache: str | None
    cache_dtype: Literal["float32", "float16"]


class _Trainer(TypedDict, total=False):
    seed: int


class _Views(TypedDict, total=False):
    policy: str | list[Any]


class _Recipe(TypedDict, total=False):
    data: _Data
    trainer: _Trainer
    views: _Views


class _Columns(TypedDict):
    names: list[str]
    mean: list[float]
    sd: list[float]


class _Training(TypedDict, total=False):
    manifests: list[str]


class _Needed(TypedDict):
    card_version: int
    encoder: _Spec


class Card(_Needed, total=False):
    """What a card must hold, and the form of what is read of it."""

    dim: int
    weights_sha256: str
    licence: str
    method: str
    medssl_version: str
    preprocessing: dict[str, Any]
    images: list[str]
    columns: _Columns | None
    recipe: _Recipe
    training: _Training
    hashes: dict[str, str]
    versions: dict[str, str]
    likeness: dict[str, Any] | None


def weights_digest(encoder: nn.Module) -> str:
    """sha256 (hex) over names, types, shapes and bytes of all weights and statistics, wherever they lie."""
    return digest_of(weights_of(encoder))


def save_encoder(encoder: nn.Module, path: str | Path, card: Mapping[str, Any]) -> str:
    """Write one .safetensors file atomically; returns the digest of the weights.

    card: JSON values of the caller's (preprocessing, training sites and ages, hashes, licence, ...). Added to it:
    card_version, encoder (the spec), dim, weights_sha256, medssl_version, and licence ("not stated") where it is
    absent. The same encoder and card give the same bytes. encoder: made by ``build_encoder``.
    """
    spec = getattr(encoder, "spec", None)
    if not spec:
        raise UserError(f"{path}: a {type(encoder).__name__} cannot be saved; build it with build_encoder")
    weights = weights_of(encoder)
    digest = digest_of(weights)
    added = {
        "card_version": CARD_VERSION,
        "encoder": spec,
        "dim": encoder.dim,
        "weights_sha256": digest,
        "medssl_version": medssl.__version__,
    }
    write_weights(Path(path), weights, _KEY, {"licence": "not stated", **card, **added})
    return digest


def _read(path: str | Path, tensors: bool) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """File (of a run folder: its encoder), card and weights; the card's version and encoder are checked."""
    file = Path(path) / _NAME if Path(path).is_dir() else Path(path)
    card, weights = read_weights(file, _KEY, tensors)
    version = card.get("card_version")
    if isinstance(version, int) and version > CARD_VERSION:
        raise UserError(
            f"{file}: its card has version {version}, but medssl {medssl.__version__} reads up to {CARD_VERSION}; "
            "update medssl"
        )
    if not isinstance(version, int) or not isinstance(card.get("encoder"), dict):
        raise UserError(f"{file}: its card names no encoder; write the file again with save_encoder")
    return file, dict(checked(card, Card, f"{file}: its card", "take the file that medssl wrote")), weights


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of an encoder file (or of a run folder's encoder) without loading the weights."""
    return _read(path, tensors=False)[1]


def load_encoder(path: str | Path) -> nn.Module:
    """Rebuild an encoder from its file (or run folder) in eval mode; ``encoder(x).pooled`` are its features.

    Parameters keep ``requires_grad``. UserError, one sentence with the file's name: missing, damaged or truncated,
    without a card, of a newer medssl, of another architecture, or with weights that were changed afterwards.
    The state of torch's random generator is left alone.
    """
    file, card, weights = _read(path, tensors=True)
    spec = card["encoder"]
    try:
        with torch.random.fork_rng(devices=[]):
            encoder = build_encoder(**spec)
    except (RecipeError, TypeError) as error:
        raise UserError(f"{file}: its card names an encoder that cannot be built here: {error}") from error
    fill(encoder, weights, file, str(spec.get("name")))
    if digest_of(weights) != card.get("weights_sha256"):
        raise UserError(f"{file}: its weights are not those that its card was written for; take the original file")
    return encoder
