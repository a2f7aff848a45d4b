"""What can be done to one volume, one verb per file: sample(rng, shape) draws, apply(x, params) does."""

from __future__ import annotations

from medssl.transforms.affine import Affine
from medssl.transforms.base import TRANSFORMS, Params, Transform, arguments_of
from medssl.transforms.batched import apply_batch
from medssl.transforms.bias import BiasField
from medssl.transforms.blur import Blur
from medssl.transforms.chain import apply_chain
from medssl.transforms.contrast import Gamma
from medssl.transforms.crop import Crop, crop_resize
from medssl.transforms.cutout import Cutout
from medssl.transforms.flip import Flip
from medssl.transforms.lowres import LowRes
from medssl.transforms.mask_features import MaskFeatures
from medssl.transforms.noise import Noise
from medssl.transforms.zscore import ZScore

__all__ = [
    "TRANSFORMS",
    "Affine",
    "BiasField",
    "Blur",
    "Crop",
    "Cutout",
    "Flip",
    "Gamma",
    "LowRes",
    "MaskFeatures",
    "Noise",
    "Params",
    "Transform",
    "ZScore",
    "apply_batch",
    "apply_chain",
    "arguments_of",
    "crop_resize",
]
