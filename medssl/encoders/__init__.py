"""Encoders by name: thin calls to MONAI where it has the network, one contract for all (``encoders/base.py``)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Annotated, Any

from medssl.checks import Count, Listed, check, check_arguments, declared, nearest, short
from medssl.errors import RecipeError

if TYPE_CHECKING:
    from medssl.encoders.base import Encoder

ENCODERS: dict[str, str] = {
    "alexnet3d": "five convolutions, 128 features: the lightest network of the ISBI 2023 study",
    "densenet121": "dense network of 121 layers, 1024 features: the published y-aware and OpenBHB encoder",
    "mlp": "perceptron on flattened values, for tables of regional measures (ROI)",
    "resnet18": "residual network of 18 layers, 512 features",
    "resnet50": "residual network of 50 layers with bottlenecks, 2048 features",
    "vit": "vision transformer on 3D patches, 384 features, returns tokens (masked autoencoders, DINO)",
}
"""Name -> one line. Sizes are those of the defaults."""

Shape = Annotated[Sequence[Count], Listed(1, 3)]
"""(D, H, W), or the number of values of a row of a table."""
_FILES = {
    "alexnet3d": "alexnet",
    "densenet121": "densenet",
    "mlp": "mlp",
    "resnet18": "resnet",
    "resnet50": "resnet",
    "vit": "vit",
}


def _maker(name: str) -> Callable[..., Encoder]:
    if name not in ENCODERS:
        raise RecipeError(f"encoder.name is {short(name)}, which is unknown; {nearest(name, ENCODERS)}")
    maker: Callable[..., Encoder] = getattr(import_module(f"medssl.encoders.{_FILES[name]}"), name)
    return maker


def encoder_arguments(name: str) -> dict[str, Any]:
    """The arguments that an encoder takes beside in_channels and shape, with their defaults."""
    parameters = inspect.signature(_maker(name)).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("in_channels", "shape")}


def check_encoder(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an encoder in the types that it declares; RecipeError for an unknown one or one out of range."""
    return check_arguments("encoder", name, declared(_maker(name)), arguments, RecipeError)


def _plain(value: Any) -> Any:
    """Lists instead of tuples and ints instead of numpy's, as JSON has them."""
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def build_encoder(
    name: str, *, in_channels: int = 1, shape: Sequence[int] | int | None = None, **arguments: Any
) -> Encoder:
    """An untrained encoder by name, with the arguments of that encoder (``encoder_arguments(name)``).

    shape: (D, H, W) of its input in voxels; vit and mlp need it (mlp: also a plain number of values), the others
    check it. ``.spec`` holds every argument, defaults included, as JSON; ``build_encoder(**encoder.spec)`` builds
    the same again. RecipeError for an unknown name or argument (naming the nearest one) or an impossible value.

    >>> build_encoder("resnet18", width=4, depth=[1, 1, 1], norm="group").dim
    16
    """
    check("in_channels", in_channels, Count, RecipeError)
    size = shape if shape is None or isinstance(shape, Sequence) else (shape,)
    check("shape", size, Shape | None, RecipeError)
    known = encoder_arguments(name)
    encoder = _maker(name)(in_channels, size, **check_encoder(name, known | arguments))
    encoder.spec = {
        "name": name,
        "in_channels": in_channels,
        "shape": _plain(size),
        **{k: _plain(arguments.get(k, default)) for k, default in known.items()},
    }
    return encoder


__all__ = ["ENCODERS", "build_encoder", "check_encoder", "encoder_arguments"]
