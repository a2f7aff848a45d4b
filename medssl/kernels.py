"""Kernels on labels: how alike two scans are, as a distance and as a log-weight.

A kernel K maps a pair of labels to a weight in [0, 1] that is 1 at equality (but for ``gaussian``). Calling one gives
``(distance_NM, logw_NM)``: the distance in label units orders pairs without ties that underflow would make,
the log-weight (closed form, never ``log(exp(..))``) is what the losses divide and sum. A weight of zero is the
log-weight -1e9. Missing labels (NaN) give NaN; ``losses.pairs.label_weights`` decides what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Column, Flag, Interval, Keyed, check, check_arguments, check_fields, declared, nearest, short
from medssl.errors import RecipeError, UserError

if TYPE_CHECKING:
    from medssl.types import Facts

Scale = Annotated[float, Interval(1e-6, 1e9, unit="label units")]
Bandwidth = Scale | Literal["scott", "silverman"]
NO_WEIGHT = -1e9  # log-weight of a pair that has no weight at all


@dataclass(frozen=True)
class Kernel:
    """A frozen callable ``(y_N, y_M) -> (distance_NM, logw_NM)``; ``name`` and ``arguments`` rebuild it.

    Fields are declared with their ranges (UserError for a value outside).

    ``codes`` says that labels are codes of categories, where a negative code means missing; ``sharp`` that the weight
    is 1 at equality and 0 elsewhere. All but a product fall, or stay equal, as |y - y'| grows. ``unscaled`` is the
    same kernel with weight 1 at equality.
    """

    name: ClassVar[str] = ""
    codes: ClassVar[bool] = False
    sharp: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self, f"kernel.{self.name}")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, as a recipe writes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def unscaled(self) -> Kernel:
        """The kernel with weight 1 at equality, for what reads a weight as a degree of sameness."""
        return self

    def __call__(self, y_N: Tensor, y_M: Tensor) -> tuple[Tensor, Tensor]:
        """Distances in label units and log-weights of all pairs, both (N, M), in the dtype of the labels."""
        if y_N.ndim != 1 or y_M.ndim != 1:
            got = f"{tuple(y_N.shape)} and {tuple(y_M.shape)}; use product() for several columns"
            raise UserError(f"kernel {self.name} reads one label per row, got shapes {got}")
        distance_NM = self.distance(y_N[:, None], y_M[None, :])
        return distance_NM, self.logw(distance_NM).clamp(min=NO_WEIGHT)

    def distance(self, y_N1: Tensor, y_1M: Tensor) -> Tensor:
        """|y - y'| in label units."""
        return (_real(y_N1) - _real(y_1M)).abs()

    def logw(self, distance: Tensor) -> Tensor:
        """log K as a function of the distance; 0 at equality and -1e9 elsewhere unless a kernel says more."""
        return _indicator(distance, distance == 0)


def _real(y: Tensor) -> Tensor:
    if not y.is_floating_point():
        return y.to(torch.get_default_dtype())
    return y.float() if y.dtype in (torch.float16, torch.bfloat16) else y


def _indicator(distance: Tensor, inside: Tensor) -> Tensor:
    logw = torch.where(inside, torch.zeros_like(distance), torch.full_like(distance, NO_WEIGHT))
    return torch.where(distance.isnan(), distance, logw)


@dataclass(frozen=True)
class Rbf(Kernel):
    """exp(-d^2 / (2 sigma^2)); sigma is a standard deviation in label units (years for age)."""

    name: ClassVar[str] = "rbf"
    sigma: Scale
    resolution: Annotated[float, Interval(0, 1e9, unit="label units")] = 0.0

    def distance(self, y_N1: Tensor, y_1M: Tensor) -> Tensor:
        """|y - y'|, rounded to multiples of ``resolution`` when that is not 0."""
        distance = super().distance(y_N1, y_1M)
        return torch.round(distance / self.resolution) * self.resolution if self.resolution else distance

    def logw(self, distance: Tensor) -> Tensor:
        """-(d / sigma)^2 / 2."""
        return -0.5 * (distance / self.sigma).square()


@dataclass(frozen=True)
class Gaussian(Rbf):
    """exp(-d^2 / (2 sigma^2)) / (sqrt(2 pi) sigma): rbf as a density, the kernel ``gaussian`` of the ISBI 2023 code.

    Its weight at equality is 0.399 / sigma (0.399 at sigma 1, above 1 for sigma below 0.399). Losses that divide by
    the sum of the weights (y_aware, threshold) do not see the factor; exponential does, in its 1 - w.
    """

    name: ClassVar[str] = "gaussian"

    @property
    def unscaled(self) -> Kernel:
        """The rbf of the same width."""
        return Rbf(self.sigma, self.resolution)

    def logw(self, distance: Tensor) -> Tensor:
        """-(d / sigma)^2 / 2 - log(sqrt(2 pi) sigma)."""
        return super().logw(distance) - math.log(math.sqrt(2 * math.pi) * self.sigma)


@dataclass(frozen=True)
class Cauchy(Kernel):
    """1 / (1 + gamma d^2); gamma in 1 / (label units)^2."""

    name: ClassVar[str] = "cauchy"
    gamma: Annotated[float, Interval(1e-18, 1e12, unit="1 / squared label units")]

    def logw(self, distance: Tensor) -> Tensor:
        """-log(1 + gamma d^2)."""
        return -torch.log1p(self.gamma * distance.square())


@dataclass(frozen=True)
class Box(Kernel):
    """1 where d <= theta, else 0; ``strict`` takes d < theta, as the hard threshold on weak labels is printed."""

    name: ClassVar[str] = "box"
    theta: Annotated[float, Interval(0, 1e9, unit="label units")]
    strict: Flag = False

    def logw(self, distance: Tensor) -> Tensor:
        """0 inside the box, -1e9 outside; equal labels are always inside."""
        inside = distance < self.theta if self.strict else distance <= self.theta
        return _indicator(distance, inside | (distance == 0))


@dataclass(frozen=True)
class Delta(Kernel):
    """1 where d = 0, else 0, for numbers (or codes)."""

    name: ClassVar[str] = "delta"
    sharp: ClassVar[bool] = True


@dataclass(frozen=True)
class Categorical(Kernel):
    """1 where the categories are equal, else 0; the distance is 0 or 1."""

    name: ClassVar[str] = "categorical"
    codes: ClassVar[bool] = True
    sharp: ClassVar[bool] = True

    def distance(self, y_N1: Tensor, y_1M: Tensor) -> Tensor:
        """0 for the same category, 1 for another, NaN where a code is missing (NaN or negative)."""
        differs = (y_N1 != y_1M).to(_real(y_N1).dtype)
        missing = y_N1.isnan() | y_1M.isnan() | (y_N1 < 0) | (y_1M < 0)
        return torch.where(missing, torch.full_like(differs, math.nan), differs)


@dataclass(frozen=True)
class Product(Kernel):
    """prod_c K_c(y_c, y'_c) over the columns of y (N, C); a factor missing on either side is left out.

    The distance is -log w, which orders pairs as the weights do. It is NaN where every factor is missing.
    """

    name: ClassVar[str] = "product"
    factors: tuple[Kernel, ...] = field(default_factory=tuple)

    @property
    def unscaled(self) -> Kernel:
        """The product of the unscaled factors."""
        return Product(tuple(k.unscaled for k in self.factors))

    def __post_init__(self) -> None:
        if not self.factors:
            raise UserError("kernel product has no factor; give one kernel per column")

    @property
    def arguments(self) -> dict[str, Any]:
        """The factors, each as a mapping with its name."""
        return {"factors": [{"name": k.name, **k.arguments} for k in self.factors]}

    def __call__(self, y_N: Tensor, y_M: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of rows of (N, C) and (M, C); column c goes to factor c."""
        if y_N.ndim != 2 or y_N.shape[1] != len(self.factors) or y_M.shape[1:] != y_N.shape[1:]:
            raise UserError(
                f"kernel product has {len(self.factors)} factors and reads labels of shape "
                f"(rows, {len(self.factors)}), got {tuple(y_N.shape)} and {tuple(y_M.shape)}"
            )
        parts = [kernel(y_N[:, c], y_M[:, c])[1] for c, kernel in enumerate(self.factors)]
        logw_NMC = torch.stack(parts, dim=-1)
        logw_NM = logw_NMC.nansum(-1).clamp(min=NO_WEIGHT)
        logw_NM = torch.where(logw_NMC.isnan().all(-1), torch.full_like(logw_NM, math.nan), logw_NM)
        return -logw_NM, logw_NM


def rbf(sigma: float, resolution: float = 0.0) -> Rbf:
    """Gaussian kernel exp(-d^2 / (2 sigma^2)); sigma is a standard deviation in label units, never a variance.

    ``resolution`` > 0 rounds distances to its multiples first, so that |y_i - y_t| computed from both sides of
    an anchor ties as it should in losses that compare weights (``threshold``).

    >>> distance, logw = rbf(5.0)(torch.tensor([20.0]), torch.tensor([20.0, 25.0, 30.0]))
    >>> [round(w, 4) for w in logw.exp()[0].tolist()]
    [1.0, 0.6065, 0.1353]
    """
    return Rbf(sigma, resolution)


def cauchy(gamma: float) -> Cauchy:
    """Cauchy kernel 1 / (1 + gamma d^2).

    >>> cauchy(0.25)(torch.tensor([20.0]), torch.tensor([22.0]))[1].exp().item()
    0.5
    """
    return Cauchy(gamma)


def box(theta: float, strict: bool = False) -> Box:
    """1 where |y - y'| <= theta (``strict``: < theta), else 0: positives by a hard threshold."""
    return Box(theta, strict)


def delta() -> Delta:
    """1 where the labels are equal, else 0."""
    return Delta()


def categorical() -> Categorical:
    """1 where the categories are equal, else 0; NaN and negative codes are missing."""
    return Categorical()


def product(factors: Sequence[Kernel]) -> Product:
    """Product of kernels over the columns of a label matrix (N, C)."""
    return Product(tuple(factors))


def bandwidth(rule: str | float, labels: Any, columns: int = 1) -> float:
    """Return sigma, a standard deviation in label units, from a number, ``"scott"`` or ``"silverman"``.

    With n known labels of unbiased standard deviation s, and ``columns`` labels in the product: Scott
    s n^(-1/(c+4)), Silverman s (n (c+2) / 4)^(-1/(c+4)) (Scott 1992; Silverman 1986). NaN labels are left out.

    >>> round(bandwidth("scott", [10.0, 20.0, 30.0, float("nan")]), 4)
    8.0274
    """
    rule = check("bandwidth", rule, Bandwidth)
    if not isinstance(rule, str):
        return rule
    known = np.asarray(labels, dtype=np.float64).ravel()
    known = known[np.isfinite(known)]
    if known.size < 2 or not known.std() > 0:
        raise UserError(f"bandwidth {rule} needs two different known labels, got {known.size} known; give a number")
    n = known.size if rule == "scott" else known.size * (columns + 2) / 4
    return float(known.std(ddof=1) * n ** (-1 / (columns + 4)))


_sigma_of = bandwidth
KERNELS: Mapping[str, type[Kernel]] = {k.name: k for k in (Rbf, Gaussian, Cauchy, Box, Delta, Categorical, Product)}


def build_kernel(
    name: str,
    bandwidth: str | float | None = None,
    arguments: Mapping[str, Any] | None = None,
    labels: Any = None,
) -> Kernel:
    """Build a kernel from a recipe.

    ``bandwidth`` is a length h in label units (a number, "scott" or "silverman", which read ``labels``):
    sigma of rbf and gaussian, theta of box, and gamma = 1 / h^2 of cauchy. ``arguments`` are the kernel's own, by name
    (``{"sigma": 5}``, ``{"gamma": 2}``, ``{"factors": [{"name": "rbf", "sigma": 5}, {"name": "delta"}]}``).

    >>> build_kernel("rbf", 5.0)
    Rbf(sigma=5.0, resolution=0.0)
    """
    if name not in KERNELS:
        raise UserError(f"kernel '{name}' is unknown; {nearest(name, KERNELS)}")
    given, cls = dict(arguments or {}), KERNELS[name]
    known = [f.name for f in fields(cls)]
    for key in given:
        if key not in known:
            raise UserError(f"kernel.{name}.{key} is no argument of the kernel; {nearest(key, known)}")
    if cls is Product:
        factors = [dict(f) for f in given.get("factors", ())]
        return product([build_kernel(str(f.pop("name", "")), None, f) for f in factors])
    if bandwidth is not None:
        scale = {"rbf": "sigma", "gaussian": "sigma", "box": "theta", "cauchy": "gamma"}.get(name)
        if scale is None or scale in given:
            reason = "has no bandwidth" if scale is None else f"has bandwidth and {scale} at the same time"
            raise UserError(f"kernel {name} {reason}; remove one of them")
        h = _sigma_of(bandwidth, labels)
        given[scale] = h**-2 if name == "cauchy" else h
    if isinstance(given.get("sigma"), str):
        given["sigma"] = _sigma_of(given["sigma"], labels)
    missing = [k for k in ("sigma", "gamma", "theta") if k in known and k not in given]
    if missing:
        raise UserError(f"kernel {name} needs {missing[0]} (or a bandwidth) in label units")
    return cls(**given)


Kernels = Annotated[Mapping[Column, Mapping[str, Any]], Keyed("{age: {kernel: rbf, bandwidth: 5}}, the default")]
"""What a recipe writes: column -> {kernel: NAME, bandwidth: ..., and what that kernel takes}."""
_CODES = frozenset({"sex", "site", "dataset", "diagnosis"})


def check_kernels(where: str, kernels: Mapping[str, Mapping[str, Any]] | None) -> None:
    """RecipeError for an unknown kernel or argument of one, and for a value out of range, before any data are read."""
    for column, options in (kernels or {}).items():
        key, able = f"{where}.{column}", sorted(set(KERNELS) - {"product"})  # several columns multiply already
        name = options.get("kernel")
        if name is not None and name not in able:
            raise RecipeError(f"{key}.kernel is {short(name)}, which is unknown; {nearest(name, able)}")
        kinds = [name] if name is not None else ["categorical"] if column in _CODES else ["rbf", "categorical"]
        known = {"kernel": str, "bandwidth": Bandwidth | None}
        for kind in kinds:
            known |= declared(KERNELS[kind])
        if "sigma" in known:
            known["sigma"] = Bandwidth
        given = check_arguments(key, kinds[0], known, options, RecipeError)
        if name is not None or column in _CODES or given:
            _built(key, str(kinds[0]), given, (0.0, 1.0))


def kernel_of(column: str, options: Mapping[str, Any], facts: Facts) -> Kernel:
    """The kernel of a column of the cohort; RecipeError where there is no such column, or it holds no numbers.

    Without ``kernel``: categorical where the column holds names (site, sex, text), else rbf.
    """
    key = f"method.kernels.{column}"
    if column not in facts.labels:
        raise RecipeError(f"{key} names a column that the manifest does not have; {nearest(column, facts.labels)}")
    coded = column in facts.coded
    name = str(options.get("kernel") or ("categorical" if coded or column in _CODES else "rbf"))
    if coded and not KERNELS[name].sharp:
        raise RecipeError(
            f"{key}.kernel is '{name}', which reads distances between numbers, but the column holds names, whose order "
            f"means nothing; use {key}.kernel=categorical"
        )
    return _built(key, name, options, facts.labels[column])


def _built(key: str, name: str, options: Mapping[str, Any], labels: Any) -> Kernel:
    rest = {k: v for k, v in options.items() if k not in ("kernel", "bandwidth")}
    try:
        return build_kernel(name, options.get("bandwidth"), rest, labels)
    except UserError as problem:
        raise RecipeError(f"{key}: {problem}") from None
