"""From an encoder file back to a network that embeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.data.manifest.columns import Columns
from medssl.data.volumes.looks import look_at
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume
from medssl.encoders.file import load_encoder, read_card, weights_digest
from medssl.errors import ScanWarning, StaleError, UserError, count
from medssl.features.likeness import Likeness
from medssl.features.unlike import NO_LIKENESS, judge
from medssl.files import is_held
from medssl.heads.file import load_head
from medssl.runs.folder import Run
from medssl.views.policies import build_policy


@dataclass(frozen=True)
class Network:
    """A trained encoder with what is needed to use it on scans."""

    encoder: nn.Module
    head: nn.Module | None
    digest: str
    preprocessing: Preprocessing
    clean: Callable[[Tensor], Tensor]
    images: tuple[str, ...]
    cache: str | None
    manifests: list[dict[str, Any]]
    seed: int
    columns: Columns | None = None
    cache_dtype: str = "float32"
    likeness: Likeness | None = None

    def prepare(self, *images: str | Path, strict: bool = False) -> Tensor:
        """One scan as the encoder's input (1, C, D, H, W): read, turned to RAS, resampled, normalised as in training.

        images: one file per channel. Warns (ScanWarning) in one sentence per kind where the scan looks unlike the
        training scans; strict: raises it as UserError. Its features are judged by ``medssl embed`` alone.
        Raises UserError where the number of files differs, VolumeError for a bad file.
        """
        if self.columns is not None or len(images) != len(self.images):
            what = "columns of a table" if self.columns is not None else f"{count(len(self.images), 'image')} per scan"
            raise UserError(f"this encoder reads {what}, but was given {count(len(images), 'image')}; see its card")
        parts = [self.preprocessing.apply(read_volume(image)) for image in images]
        x_CDHW = np.concatenate(parts).astype(np.float32)
        self._compare(x_CDHW, images, strict)
        return self.clean(torch.from_numpy(x_CDHW))[None]

    def known(self, name: str | Path, strict: bool) -> bool:
        """Whether scans can be compared with the training scans; says so, or with ``strict`` refuses, where not."""
        if self.likeness is None and strict:
            raise UserError(f"{name}: {NO_LIKENESS}; leave out --strict (strict)")
        if self.likeness is None:
            warnings.warn(f"{name}: {NO_LIKENESS}", ScanWarning, stacklevel=4)
        return self.likeness is not None

    def _compare(self, x_CDHW: np.ndarray, images: tuple[str | Path, ...], strict: bool) -> None:
        """Say, or refuse, what looks unlike the training scans."""
        if not self.known(images[0], strict) or self.likeness is None:
            return
        looks = look_at(x_CDHW, images, self.preprocessing).ravel()[None]
        verdict = judge(self.likeness, looks, None, lambda _: str(images[0]))
        if strict and verdict.refusal:
            raise UserError(verdict.refusal)
        for sentence in verdict.sentences:
            warnings.warn(sentence, ScanWarning, stacklevel=3)


def load_network(run: str | Path, projection: bool = False) -> Network:
    """The trained encoder of a run folder or an encoder file, with the preparation of scans that it was trained on.

    projection: also load the projector (``head``). Raises UserError where the run is not finished or has no projector.
    """
    return network_of(Path(run), projection)


def network_of(path: Path, projection: bool) -> Network:
    """The encoder of a run folder or of an encoder file, with its preprocessing.

    Raises UserError when the run is not finished or has no projector.
    """
    file = Run(path).encoder if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        if is_held(Run(path).lock):
            raise UserError(
                f"{path} is being trained by another process and holds no encoder yet; wait until that has finished"
            )
        raise UserError(f"{path} holds no encoder yet; finish it with `medssl pretrain --resume {path}`")
    card = read_card(file)
    if "preprocessing" not in card:
        raise UserError(f"{file}: its card does not say how scans are prepared; use an encoder that pretrain wrote")
    head = None
    if projection:
        beside = file.with_name("projection.safetensors")
        if not beside.is_file():
            raise UserError(f"{beside} does not exist: this method has no projector; leave out --projection")
        head = load_head(beside)
        if path.is_dir() and _hashes(path).get("projection", mine := weights_digest(head.projector)) != mine:
            raise StaleError(
                f"{beside} is not the projector that {path} trained; put it back, or leave out --projection"
            )
    encoder = load_encoder(file)
    digest = weights_digest(encoder)
    if path.is_dir() and _hashes(path).get("encoder", digest) != digest:
        raise StaleError(f"{file} is not the encoder that {path} trained; put it back, or name the file instead")
    recipe = card.get("recipe", {})
    data = recipe.get("data", {})
    sources = ([{"path": data["manifest"], "weight": 1.0}] if data.get("manifest") else []) + list(
        data.get("manifests", [])
    )
    return Network(
        encoder,
        head,
        digest,
        Preprocessing.from_dict(card["preprocessing"]),
        build_policy(recipe.get("views", {}).get("policy", "none")).clean,
        tuple(card.get("images", ("image",))),
        data.get("cache") if path.is_dir() else None,  # the path on another's machine is no place to write to
        sources,
        int(recipe.get("trainer", {}).get("seed", 0)),
        Columns.from_dict(card["columns"]) if card.get("columns") else None,
        data.get("cache_dtype", "float32"),
        Likeness.from_dict(card["likeness"]) if isinstance(card.get("likeness"), dict) else None,
    )


def _hashes(run: Path) -> dict[str, str]:
    """What run.json says of the files of a run."""
    hashes: dict[str, str] = Run(run).read_info().get("hashes", {})
    return hashes
