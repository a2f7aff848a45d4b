"""The table of methods: name -> class, fixed arguments, family, paper, one line; imported when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medssl import checks
from medssl.checks import Weight, clipped, declared, nearest, short
from medssl.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

    from medssl.methods.base import Method
    from medssl.types import Facts, Shown


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
REGULARIZERS: Mapping[str, str] = {
    "fair_kl": "medssl.methods.regularizers.pairs:FairKL",
    "alignment": "medssl.methods.regularizers.pairs:Alignment",
    "uniformity": "medssl.methods.regularizers.pairs:Uniformity",
    "variance": "medssl.methods.regularizers.spread:Variance",
    "covariance": "medssl.methods.regularizers.spread:Covariance",
}
"""Terms that ``regularizers:`` of a recipe adds to the loss of a method with a joint embedding."""


PAPER_NAMES = {"lexp": "exponential", "lthr": "threshold", "yaware": "y_aware", "l1": "l1_age"}
"""What papers and tables call a method, in small letters and digits alone -> its name here."""


def entry(name: str) -> Entry:
    """A name of the catalogue; RecipeError names the nearest known one, or the one that papers call so."""
    if name not in CATALOG:
        raise RecipeError(f"unknown method '{clipped(name)}'; {hint(name)} (see `medssl methods`)")
    return CATALOG[name]


def hint(name: str) -> str:
    """What helps after an unknown name of a method: its name here, where papers call it so, or the nearest."""
    meant = PAPER_NAMES.get("".join(c for c in str(name).lower() if c.isalnum()))
    return f"its name here is '{meant}'" if meant else nearest(name, list(CATALOG))


def check_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a method in the types that it declares.

    RecipeError for one that the method does not have, that its name fixes, that is out of its declared range, or that
    does not go with another.
    """
    found = entry(name)
    for key in arguments:
        if key in found.fixed:
            raise RecipeError(f"method.{key} is fixed by the name '{name}'; choose another method or leave it out")
    loaded = found.load()
    known = {key: declared(loaded)[key] for key in found.arguments()}
    checked = checks.check_arguments("method", name, known, arguments, RecipeError, f" (see `medssl methods {name}`)")
    loaded.refuse({key: p.default for key, p in found.arguments().items()} | dict(found.fixed) | checked)
    return checked


def shown(name: str, arguments: Mapping[str, Any]) -> Shown:
    """What a method with these arguments of a recipe is shown."""
    found = entry(name)
    defaults = {key: p.default for key, p in found.arguments().items()}
    return found.load().sees(defaults | dict(found.fixed) | check_arguments(name, arguments))


def check_micro_batch(name: str, strategy: str) -> None:
    """RecipeError for what gradient caching cannot do: losses of more than embeddings, weights in shards."""
    if not entry(name).load().embeds():
        able = [n for n, e in CATALOG.items() if e.load().embeds()]
        raise RecipeError(
            f"trainer.micro_batch caches gradients of embeddings, and the loss of {name} needs more than those or "
            f"compares no scans; use trainer.accumulate for it, or choose {', '.join(able[:-1])} or {able[-1]}"
        )
    if strategy not in ("auto", "ddp"):
        raise RecipeError(
            f"trainer.micro_batch needs the whole weights on every device, which trainer.strategy={strategy} does not "
            f"keep; use trainer.accumulate, or trainer.strategy=auto"
        )


def check_regularizers(method: str, given: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Regularisers (name, arguments with ``weight``) in the types that they declare, weight 1 where none is given.

    RecipeError for an unknown name or argument, for one out of its range, and for a method without a joint embedding.
    """
    checked = []
    for number, (name, arguments) in enumerate(given):
        where = f"regularizers.{number}"
        if name not in REGULARIZERS:
            raise RecipeError(f"{where}.name is {short(name)}, which is unknown; {nearest(name, list(REGULARIZERS))}")
        if not entry(method).load().joint:
            able = [n for n, e in CATALOG.items() if e.load().joint]
            raise RecipeError(
                f"{where}: {name} acts on a joint embedding, and {method} has none; leave it out, or choose "
                f"{', '.join(able[:-1])} or {able[-1]}"
            )
        known = {"weight": Weight, **declared(_regularizer(name))}
        found = {"weight": 1.0} | checks.check_arguments(where, name, known, arguments, RecipeError)
        checked.append((name, found))
    return checked


def add_regularizers(method: Method, name: str, facts: Facts, given: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Build the regularisers of a recipe for a method, which then reads their columns and adds them in ``step``."""
    for term, arguments in check_regularizers(name, given):
        weight = arguments.pop("weight")
        built = _regularizer(term)(method, facts, **arguments)
        if built.name in [other.name for _, other in method.regularizers]:
            raise RecipeError(f"regularizers names {built.name} twice; keep one of them")
        method.regularizers += ((weight, built),)
        method.reads += tuple(column for column in built.reads if column not in method.reads)


def _regularizer(name: str) -> Any:
    module, _, cls = REGULARIZERS[name].partition(":")
    return getattr(import_module(module), cls)


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
