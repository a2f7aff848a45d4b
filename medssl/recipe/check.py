"""What of a recipe cannot be trained on this machine, while nothing is read and no run folder is made."""

from __future__ import annotations

from medssl.errors import RecipeError, UserError
from medssl.recipe.model import Recipe
from medssl.training.hardware.device import processes, refuse_machine
from medssl.training.monitors import tensorboard_writer


def check_recipe(recipe: Recipe) -> None:
    """Raise UserError where no manifest is given, a package is absent, or this machine lacks what is asked for."""
    if not recipe.data.sources:
        raise UserError("no manifest is given; set data.manifest=PATH (`medssl cohort scan ROOT -o PATH` makes one)")
    if recipe.trainer.tensorboard:
        tensorboard_writer()
    refuse_machine(recipe.trainer)
    number, method = processes(recipe.trainer), recipe.method
    if number > 1 and (method.name, method.arguments.get("variant")) == ("threshold", "isbi_code"):
        raise RecipeError(
            f"method.variant=isbi_code of threshold compares all scans in one process, but this training has {number}; "
            f"set trainer.devices=1, or method.variant=slide"
        )
