"""The files of a run: where those of each unit are, and the configuration of its adapter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.methods import AdapterConfig
from graftwork.training.ranks import Ranks


@dataclasses.dataclass
class RunFiles:
    """The folders of a run's units.

    Attributes:
        recipe: The run's recipe.
        root: The folder that its paths are relative to.
        run: The run's folder.
        held: The folders of those units that this worker trains now, by id (see `graftwork.experiments.running.claims`).
        ranks: The processes that this worker is.
    """

    recipe: Recipe
    root: Path
    run: Path
    held: dict[str, Path] = dataclasses.field(default_factory=dict)
    ranks: Ranks = dataclasses.field(default_factory=Ranks)

    def folder(self, unit: Unit) -> Path:
        """The folder of a unit."""
        return self.held.get(unit.id) or unit.folder(self.run)

    def is_given(self, unit: Unit) -> bool:
        """Whether the recipe names a folder for a unit's adapter, which was trained elsewhere."""
        return unit.task in self.recipe.trained

    def adapter_folder(self, unit: Unit) -> Path:
        """The folder of a unit's adapter: in the run, or where the recipe says that it is trained already."""
        there = self.recipe.trained.get(unit.task)
        return self.folder(unit) / "adapter" if there is None else self.root / Path(there).expanduser()

    def adapter_config(self, unit: Unit) -> AdapterConfig:
        """The configuration of a unit's adapter."""
        return self.recipe.adapter_config(unit.kind, unit.method)
