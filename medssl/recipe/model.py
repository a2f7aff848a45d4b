"""YAML -> Recipe; an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer

from medssl.checks import (
    Column,
    Columns,
    Count,
    Listed,
    Millimetres,
    Pattern,
    Positive,
    ProcessesOrNone,
    Voxels,
    clipped,
    fault,
    near,
    nearest,
    short,
    written,
)
from medssl.documents import yaml_file
from medssl.documents.names import is_file
from medssl.errors import RecipeError
from medssl.recipe.catalog import CATALOG, check_arguments, check_micro_batch, check_regularizers, hint, shown
from medssl.recipe.overrides import apply_override, blamed
from medssl.training.options import MonitorOptions, Optimisation, TrainerOptions
from medssl.training.presets import with_preset

if typing.TYPE_CHECKING:
    from medssl.types import Shown

_HERE = Path(__file__).resolve().parents[1]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestSource(_Strict):
    """One manifest of several; weight is its share of the draws relative to its number of scans."""

    path: str
    weight: Positive = 1.0


class PreprocessingOptions(_Strict):
    """See medssl.data.volumes.preprocess.Preprocessing."""

    spacing: Millimetres | None = None
    shape: Voxels | None = None
    intensity: typing.Literal["zscore", "percentile", "none"] = "zscore"
    mask: typing.Literal["nonzero", "otsu", "none"] = "nonzero"
    nan: typing.Literal["error", "zero"] = "error"

    @model_serializer
    def _without_default(self) -> dict[str, Any]:
        """``nan`` is written only where it is not "error", so that digests of older recipes stay."""
        return {key: value for key, value in self if key != "nan" or value != "error"}


class DataOptions(_Strict):
    """Which scans (or, of a table, which columns by patterns), how they are prepared, how many per step and process."""

    manifest: str | None = None
    manifests: tuple[ManifestSource, ...] = ()
    images: Columns = ("image",)
    columns: typing.Annotated[tuple[Pattern, ...], Listed(1, 10_000)] | None = None
    cache: str | None = None
    cache_dtype: typing.Literal["float32", "float16"] = "float32"
    preprocessing: PreprocessingOptions = PreprocessingOptions()
    batch_size: Count = 32
    balance: Column | None = None
    workers: ProcessesOrNone = 0

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Manifests with weights, in order."""
        first = [{"path": self.manifest, "weight": 1.0}] if self.manifest else []
        return first + [{"path": s.path, "weight": s.weight} for s in self.manifests]


class ViewOptions(_Strict):
    """How a scan is augmented: a named policy or a list of transforms with probabilities; where, and how exactly.

    device: "loader" (the workers make views), "device" (they deliver volumes, and the views of a batch are made
    together where the network is), "auto" (device on CUDA). products: of separable transforms (flip, crop, blur, ...).
    Further keys are arguments of the method's view maker, where it leaves them to the recipe (``n_local: 4``).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    policy: str | list[str | dict[str, Any]] = "robust"
    device: typing.Literal["auto", "loader", "device"] = "auto"
    products: typing.Literal["float32", "bfloat16"] = "float32"

    @property
    def arguments(self) -> dict[str, Any]:
        """The keys that are arguments of the view maker."""
        return dict(self.model_extra or {})


class Named(BaseModel):
    """A name and its arguments, which the named thing itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.model_extra or {})


class Recipe(_Strict):
    """Everything that decides a pre-training, and nothing else."""

    method: Named
    encoder: Named = Named(name="resnet18")
    data: DataOptions = Field(default_factory=lambda: DataOptions.model_validate({}))
    views: ViewOptions = ViewOptions()
    optim: Optimisation = Optimisation()
    trainer: TrainerOptions = TrainerOptions()
    monitors: MonitorOptions = MonitorOptions()
    regularizers: tuple[Named, ...] = ()
    output: str | None = None

    @field_validator("method", "encoder", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        plain: dict[str, Any] = json.loads(self.model_dump_json())
        if plain["optim"]["final_weight_decay"] is None:  # so that digests of older recipes stay
            del plain["optim"]["final_weight_decay"]
        return plain

    def to_yaml(self) -> str:
        """The resolved recipe as YAML."""
        return yaml_file.to_yaml(self.to_dict())

    def absolute(self) -> Recipe:
        """The same recipe with absolute paths, so that a run can be continued and scored from any folder."""

        def fixed(path: str | None) -> str | None:
            return None if path is None else str(Path(path).expanduser().resolve())

        sources = tuple(s.model_copy(update={"path": fixed(s.path)}) for s in self.data.manifests)
        places = {
            "manifest": fixed(self.data.manifest),
            "cache": fixed(self.data.cache),
            "manifests": sources,
        }
        data = self.data.model_copy(update=places)
        return self.model_copy(update={"data": data, "output": fixed(self.output)})

    def settled(self) -> Recipe:
        """The same recipe with what "auto" says about numbers decided for this machine, as a run keeps it."""
        from medssl.training.hardware.device import settle

        return self.model_copy(update={"trainer": settle(self.trainer, volumes=self.data.columns is None)})

    @property
    def digest(self) -> str:
        """sha256 of the resolved recipe without its output folder."""
        return _digest(self.to_dict())


def file_digest(path: Path) -> str:
    """``Recipe.digest`` of a resolved recipe file, also where a later medssl knows more keys than the file has."""
    return _digest(read_yaml(path))


def _digest(content: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in content.items() if k != "output"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def config_file(group: str, name: str) -> Path | None:
    """configs/GROUP/NAME.yaml of the checkout or of the installed package, None where there is none."""
    for folder in (_HERE.parent / "configs", Path(sys.prefix) / "share" / "medssl" / "configs"):
        if os.sep not in name and is_file(folder / group / f"{name}.yaml"):
            return folder / group / f"{name}.yaml"
    return None


def recipe_path(name: str) -> Path:
    """A recipe by file name or by catalogue name.

    Raises RecipeError when there is neither a file nor a catalogue name.
    """
    path = Path(name)
    if is_file(path):
        return path
    if name in CATALOG or name in ("demo", "exponential_roi"):
        found = config_file("pretrain", name)
        if found is not None:
            return found
    if path.suffix in {".yaml", ".yml"} or os.sep in name:
        raise RecipeError(f"{name} does not exist; give a recipe file or a method name (see `medssl methods`)")
    raise RecipeError(f"unknown method '{clipped(name)}'; {hint(name)} (see `medssl methods`)")


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply dotted overrides (``optim.lr=1e-3``) and check everything.

    Raises RecipeError naming the file, the key, the rule and the nearest known key.
    """
    path = recipe_path(str(name))
    content = read_yaml(path)
    for override in overrides:
        apply_override(content, override)
    try:
        return parse_recipe(content, str(path))
    except RecipeError as problem:
        raise blamed(problem, str(path), overrides) from None


def parse_recipe(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check a recipe given as plain values, with its preset of the optimiser written out."""
    try:
        content = dict(content) | ({"optim": with_preset(content["optim"])} if "optim" in content else {})
    except RecipeError as problem:
        raise RecipeError(f"{where}: {problem}") from None
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as problem:
        raise RecipeError(f"{where}: {explain(problem, content)}") from None
    if recipe.method.name not in CATALOG:
        name = recipe.method.name
        raise RecipeError(f"{where}: method.name is {short(name)}, which is unknown; {nearest(name, CATALOG)}")
    _check_parts(recipe, where)
    return recipe


def _check_parts(recipe: Recipe, where: str) -> None:
    """Let method, encoder and views check their own keys now, not after hours of reading scans."""
    from medssl.encoders import check_encoder
    from medssl.recipe.rehearsal import rehearse_encoder
    from medssl.views.policies import build_policy

    try:
        check_arguments(recipe.method.name, recipe.method.arguments)
        check_regularizers(recipe.method.name, [(r.name, r.arguments) for r in recipe.regularizers])
        if recipe.trainer.micro_batch is not None:
            check_micro_batch(recipe.method.name, recipe.trainer.strategy)
        arguments = json.dumps(check_encoder(recipe.encoder.name, recipe.encoder.arguments), sort_keys=True)
        if recipe.data.columns is None:
            rehearse_encoder(recipe.encoder.name, arguments, len(recipe.data.images), recipe.data.preprocessing.shape)
        build_policy(recipe.views.policy)
        views_of(recipe)
    except RecipeError as problem:
        raise RecipeError(f"{where}: {problem}") from None


def views_of(recipe: Recipe) -> Shown:
    """What the method of a recipe is shown, with what the recipe changes of it; RecipeError for an unknown key."""
    from medssl.views.table import check_views

    views = shown(recipe.method.name, recipe.method.arguments)
    own = list(ViewOptions.model_fields)
    for key in recipe.views.arguments:
        if (close := near(key, own)) is not None:
            raise RecipeError(f"views.{key} is unknown; did you mean 'views.{close}'?")
    return check_views(views, recipe.views.arguments)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, numbers as numbers; RecipeError naming the file and the line."""
    content = yaml_file.read_yaml(path)
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as method:, encoder:, data:")
    return content


def explain(problem: ValidationError, content: Any, root: type[BaseModel] = Recipe) -> str:
    """What is wrong with plain values that were checked against ``root``, with the nearest key for an unknown one."""
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    error = next((e for e in problem.errors() if e["type"] in unknown), problem.errors()[0])
    where = written(error["loc"], content)
    if error["type"] in unknown:
        within = "".join(f"{part}." for part in where[:-1])
        return f"unknown key '{within}{where[-1]}'; {nearest(where[-1], _known(where[:-1], root), within)}"
    if error["type"] == "missing":
        return f"'{'.'.join([*where, str(error['loc'][-1])])}' is missing; write it"
    where, given, rule = fault(problem, content)
    if error["type"] in ("model_type", "dataclass_type", "mapping_type", "dict_type"):
        rule = f"a mapping of keys is needed: {', '.join(_known(where, root)) or 'key: value'}"
    return f"'{'.'.join(where)}' is {short(given)}, but {rule}"


def _known(parents: Sequence[str], root: type[BaseModel]) -> list[str]:
    """Keys that are allowed below a path of keys."""
    node: Any = root
    for part in parents:
        fields = {f: node.model_fields[f].annotation for f in node.model_fields} if _is_model(node) else None
        annotation = (fields or typing.get_type_hints(node)).get(part, node)
        inner = [a for a in (annotation, *typing.get_args(annotation)) if _is_model(a) or dataclasses.is_dataclass(a)]
        if not inner:
            return []
        node = inner[0]
    return list(node.model_fields) if _is_model(node) else [f.name for f in dataclasses.fields(node)]


def _is_model(node: Any) -> bool:
    return isinstance(node, type) and issubclass(node, BaseModel)
