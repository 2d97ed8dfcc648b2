"""What is compared: from a recipe and some names to a recipe that trains only those for every target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import REFERENCE
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.planning.recipe_tables import Control
from graftwork.experiments.running.folder import RECIPE, recipe_of
from graftwork.methods import methods as known_methods
from graftwork.options import hint

COMPARABLE: tuple[str, ...] = get_args(Control)
_PEFT = "peft:"


def comparison(recipe: Recipe, names: Sequence[str] | None = None) -> Recipe:
    """A recipe that trains what is compared, for each of its targets (by default every task).

    Args:
        recipe: Base, tasks, seeds and budget.
        names: What is compared: a ``[methods.NAME]`` of the recipe, a kind of training (``"head"``, ``"fusion"``, ...), a
            registered method with its default options (``"houlsby"``), or a method of peft (``"peft:oft"``). By default
            what `usual` gives. Full fine-tuning is always added: everything else is compared with it.

    Raises:
        RecipeError: If a name is not known, or the recipe cannot train it.
    """
    if not recipe.tasks:
        raise RecipeError("there is nothing to compare on: the recipe has no [tasks.NAME]; give one")
    names = usual(recipe) if names is None else [name.strip() for name in names if name.strip()]
    if not names:
        raise RecipeError(f"no method is named; {_known(recipe)}")
    controls, methods = [REFERENCE], {}
    for name in names:
        if name in recipe.methods:
            methods[name] = recipe.methods[name]
        elif name in COMPARABLE:
            controls.append(name)
        else:
            methods[name.replace(":", "-")] = _options(name, recipe)
    return _amended(recipe, recipe.targets or tuple(recipe.tasks), controls, methods)


def usual(recipe: Recipe) -> list[str]:
    """What is compared by default.

    The controls of the recipe, or the head alone (the base as it is, where it answers by itself), and every ``[methods.NAME]``;
    where it has no such table, Pfeiffer, Houlsby, Compacter and LoRA.
    """
    bare = "head" if any(kind.has_weights for kind in recipe.kinds) else "zero_shot"
    controls = list(recipe.controls) if "controls" in recipe.model_fields_set else [bare]
    return [*controls, *(recipe.methods or ["pfeiffer", "houlsby", "compacter", "lora"])]


def grown(recipe: Recipe, run: Path) -> Recipe:
    """A comparison with all that an earlier one in the same folder has, so that nothing is lost from it."""
    if not (run / RECIPE).is_file():
        return recipe
    before = recipe_of(run)
    if before.fuse:  # not begun by a comparison: `settle_recipe` refuses it
        return recipe
    controls, methods = [*before.controls, *recipe.controls], {**before.methods, **recipe.methods}
    return _amended(recipe, recipe.targets, controls, methods)


def _amended(recipe: Recipe, targets: Sequence[str], controls: Sequence[str], methods: dict[str, Any]) -> Recipe:
    tables = recipe.model_dump(mode="json", exclude_unset=True)
    tables |= {"fuse": False, "targets": list(targets), "controls": list(dict.fromkeys(controls)), "methods": methods}
    return Recipe.make(tables, "the comparison")


def _options(name: str, recipe: Recipe) -> dict[str, Any]:
    """The table of a method that the recipe does not have.

    Raises:
        RecipeError: If there is no such method.
    """
    if name.startswith(_PEFT):
        return {"peft": {"peft_type": name.removeprefix(_PEFT).upper()}}
    if name not in known_methods():
        near = hint(name, [*recipe.methods, *COMPARABLE, *known_methods()])
        raise RecipeError(f"{name!r} is not known to compare; {f'{near} ' if near else ''}{_known(recipe)}")
    return {"method": name}


def _known(recipe: Recipe) -> str:
    tables = f"the recipe's own [methods]: {', '.join(recipe.methods)}; " if recipe.methods else ""
    return (
        f"There is {tables}kinds of training: {', '.join(COMPARABLE)}; methods: {', '.join(known_methods())}; of peft: "
        f"{_PEFT}lora and so on; with options of its own one is a table [methods.NAME] of the recipe"
    )
