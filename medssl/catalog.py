"""The table of methods: name -> class, fixed arguments, family, paper, one line; imported when asked for."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from medssl.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from medssl.methods.base import Method
    from medssl.types import Facts


@dataclass(frozen=True)
class Entry:
    """One catalogue name."""

    name: str
    target: str
    family: str
    line: str
    paper: str
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> type[Method]:
        """Import the class."""
        module, _, cls = self.target.partition(":")
        loaded: type[Method] = getattr(import_module(module), cls)
        return loaded

    def arguments(self) -> dict[str, inspect.Parameter]:
        """Arguments that a recipe may set under ``method:``."""
        parameters = inspect.signature(self.load().__init__).parameters
        return {k: p for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY and k not in self.fixed}


_KERNEL = "medssl.methods.weak.kernel_contrast:KernelContrast"
_ENTRIES = (
    Entry(
        "simclr",
        "medssl.methods.contrastive.two_view:TwoView",
        "contrastive",
        "two augmented views of a scan attract, all other scans of the batch repel",
        "Chen et al. 2020, arXiv 2002.05709",
    ),
    Entry(
        "moco",
        "medssl.methods.contrastive.momentum_queue:MomentumQueue",
        "contrastive",
        "a slowly moving copy of the encoder fills a queue of keys that act as negatives",
        "He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297",
    ),
    Entry(
        "y_aware",
        _KERNEL,
        "weak",
        "scans attract each other as much as their labels (age) are alike",
        "Dufumier et al. 2021, arXiv 2106.08808",
        {"loss": "y_aware"},
    ),
    Entry(
        "threshold",
        _KERNEL,
        "weak",
        "L_thr: a scan repels only those that are less alike in label than the one it attracts",
        "Barbano et al. 2023, arXiv 2211.08326",
        {"loss": "threshold"},
    ),
    Entry(
        "exponential",
        _KERNEL,
        "weak",
        "L_exp: repulsion fades with label similarity; the best published OpenBHB score",
        "Barbano et al. 2023, arXiv 2211.08326",
        {"loss": "exponential"},
    ),
    Entry(
        "mae",
        "medssl.methods.masked.autoencoder:MaskedAutoencoder",
        "masked",
        "a transformer sees a quarter of the patches and a small decoder paints the rest",
        "He et al. 2022, arXiv 2111.06377",
    ),
    Entry(
        "bigan",
        "medssl.methods.adversarial.bigan:BiGAN",
        "adversarial",
        "an encoder and a generator fool a critic that sees pairs of scan and latent code",
        "Donahue et al. 2017, arXiv 1605.09782; Dumoulin et al. 2017, arXiv 1606.00704",
    ),
    Entry(
        "deepcluster",
        "medssl.methods.cluster.deepcluster:DeepCluster",
        "cluster",
        "k-means over the cohort gives pseudo-labels that the network learns to predict, again and again",
        "Caron et al. 2018, arXiv 1807.05520",
    ),
    Entry(
        "l1_age",
        "medssl.methods.supervised.regression:Regression",
        "supervised",
        "the supervised baseline: predict age with an absolute error",
        "OpenBHB baseline: Dufumier et al. 2022, NeuroImage 263:119637",
    ),
)
CATALOG: Mapping[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def nearest(word: str, known: list[str]) -> str:
    """The sentence part that helps after an unknown name."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def entry(name: str) -> Entry:
    """Look a name up; RecipeError names the nearest known one."""
    if name not in CATALOG:
        raise RecipeError(f"unknown method '{name}'; {nearest(name, list(CATALOG))} (see `medssl methods`)")
    return CATALOG[name]


def check_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a method in the types that it declares.

    RecipeError for one that the method does not have, that its name fixes, or that has another type.
    """
    from pydantic import TypeAdapter, ValidationError

    found = entry(name)
    known = found.arguments()
    types = get_type_hints(found.load().__init__)
    checked = {}
    for key, value in arguments.items():
        if key in found.fixed:
            raise RecipeError(f"method.{key} is fixed by the name '{name}'; choose another method or leave it out")
        if key not in known:
            raise RecipeError(f"method.{key} is no argument of '{name}'; {nearest(key, list(known))}")
        try:
            checked[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as problem:
            first = problem.errors()[0]
            rule = first["msg"][0].lower() + first["msg"][1:]
            raise RecipeError(f"method.{key} is {value!r}, but {rule} (see `medssl methods {name}`)") from None
    return checked


def build_method(name: str, encoder: nn.Module, facts: Facts, arguments: Mapping[str, Any]) -> Method:
    """Make a method; the encoder must provide what the method needs."""
    found = entry(name)
    checked = check_arguments(name, arguments)
    cls = found.load()
    provides = getattr(encoder, "provides", frozenset({"pooled"}))
    if cls.needs not in provides:
        raise RecipeError(
            f"{name} needs an encoder that returns {cls.needs}, and this one returns {', '.join(sorted(provides))}; "
            f"set encoder.name={'vit' if cls.needs == 'tokens' else 'resnet18'}"
        )
    return cls(encoder, facts, **found.fixed, **checked)
