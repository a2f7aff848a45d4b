"""Optimisers of published studies, by name: what ``optim: {preset: NAME}`` of a recipe stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medssl.checks import nearest, short
from medssl.errors import RecipeError

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ywa": {"name": "adam", "lr": 1e-4, "weight_decay": 5e-5, "schedule": "constant"},
    "isbi": {
        "name": "adam", "lr": 1e-4, "weight_decay": 5e-5,
        "schedule": "step", "gamma": 0.9, "every_epochs": 10,
    },
    "vit": {
        "name": "adamw", "weight_decay": 0.04, "final_weight_decay": 0.4,
        "schedule": "cosine", "warmup": 10.0,
    },
    "lars": {
        "name": "lars", "lr": 0.2, "weight_decay": 1e-6, "momentum": 0.9,
        "schedule": "cosine", "warmup": 10.0,
    },
}  # fmt: skip
"""Keys of ``optim:`` by preset; a key that a preset leaves out keeps its default, and one beside it stands over it.

ywa: y-aware (Dufumier et al. 2021), which trains 100 epochs in batches of 64. isbi: L_thr and L_exp (Barbano et al.
2023), 300 epochs in batches of 32. vit: transformers (MAE, DINO, I-JEPA), whose studies clip gradients at norm 3
(``trainer.clip``, the default). lars: large batches (BYOL, Barlow Twins); its rate of 0.2 is for 256 scans per step and
grows in proportion to them. Weight decay spares 1-D parameters, as it does everywhere here.
"""


def with_preset(optim: Any) -> Any:
    """The section ``optim`` of a recipe with its preset written out; as it is where it names none.

    RecipeError for an unknown preset, and for one beside another optimiser's name.
    """
    if not isinstance(optim, Mapping) or "preset" not in optim:
        return optim
    rest = {key: value for key, value in optim.items() if key != "preset"}
    preset = optim["preset"]
    if not isinstance(preset, str) or preset not in PRESETS:
        raise RecipeError(f"optim.preset is {short(preset)}, which is unknown; {nearest(preset, PRESETS)}")
    wanted = PRESETS[preset]["name"]
    if rest.get("name", wanted) != wanted:
        raise RecipeError(
            f"optim.preset is '{preset}', which is {wanted}, but optim.name is {short(rest['name'])}; leave optim.name "
            f"out, or write optim={{preset: {preset}}} to take the whole preset"
        )
    return {**PRESETS[preset], **rest}
