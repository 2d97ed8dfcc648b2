"""The files of a run: where those of each unit are, and what its recipe says of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.methods import AdapterConfig


@dataclasses.dataclass
class RunFiles:
    """Where a run's files are.

    Attributes:
        recipe: The run's recipe.
        root: What its paths are relative to.
        run: The run's folder.
    """

    recipe: Recipe
    root: Path
    run: Path

    def folder(self, unit: Unit) -> Path:
        """The folder of a unit."""
        return unit.folder(self.run)

    def is_given(self, unit: Unit) -> bool:
        """Whether a unit's adapter is given by the recipe, trained elsewhere."""
        return unit.task in self.recipe.trained

    def adapter_folder(self, unit: Unit) -> Path:
        """Where the adapter of a unit is: in the run, or where the recipe says that it is trained already."""
        there = self.recipe.trained.get(unit.task)
        return self.folder(unit) / "adapter" if there is None else self.root / Path(there).expanduser()

    def adapter_config(self, unit: Unit) -> AdapterConfig:
        """The configuration of a unit's adapter."""
        return self.recipe.adapter_config(unit.kind, unit.method)
