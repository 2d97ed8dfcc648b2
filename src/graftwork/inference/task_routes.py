"""The task of a run that a text belongs to: by the finder that the run has trained, else by the descriptions in the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import load_processor
from graftwork.experiments.running.finder import FOLDER, joined, read_finder, tasks_of_text
from graftwork.experiments.running.folder import recipe_of, root_of
from graftwork.inference.predictor import Predictor, attached_base, only_task
from graftwork.inference.task_finder import Described, Found, check_threshold, decide
from graftwork.training.text_states import text_states

MARGIN = 0.2


class RunFinder:
    """Finds the task of a run that a text belongs to, or none.

    A run of two text tasks or more trains a finder (``finder/`` in its folder). The score of a task is then its probability, and
    no task is found where the best leads the next by less than ``margin``, or where the text is further from the best task's
    training texts than 95 % of these are. In a run without a finder the ``description`` and ``prompts`` of the tasks are
    compared, as by `TaskFinder`.

    Args:
        run: The run's folder.
        margin: No task is found where the probability of the best leads the next by less than this.
        root: The folder that the recipe's paths are relative to; by default the recipe's folder when the run began.
        adapters: The handle of the run's base, where it is loaded already; what is active on it is left out.

    Attributes:
        tasks: The tasks that can be found.
        adapters: The handle of the base.

    Raises:
        RecipeError: If the run has neither a finder nor descriptions, or its finder is damaged or of another base.
        ConfigError: If the margin is not a number from 0 to 1.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        margin: float = MARGIN,
        root: str | Path | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        check_threshold("RunFinder", "margin", margin, 1)
        self.run, self.margin = Path(run), margin
        self.recipe = recipe_of(self.run)
        root = root_of(self.run, root)
        folder = self.run / FOLDER
        self._trained = read_finder(folder)
        described = {} if self._trained is not None else _descriptions(self.recipe, self.run)
        self.tasks: tuple[str, ...] = self._trained.tasks if self._trained is not None else tuple(described)
        self.processor = load_processor(self.recipe.base, self.recipe.kinds, root)
        self.adapters: Adapters = attached_base(self.recipe, root) if adapters is None else adapters
        self._described = Described(self.adapters, self.processor, described) if described else None
        if self._trained is not None:
            self._trained.check_base(self.adapters, self.processor, folder)

    def find(self, texts: Sequence[str]) -> list[Found]:
        """Find the task of each text.

        Raises:
            ConfigError: If there are no texts.
        """
        if self._trained is None:
            assert self._described is not None  # a run with neither was refused
            return self._described.find(texts)
        head = self._trained.head
        states = text_states(self.adapters, texts, self.processor, max_length=self.recipe.base.max_length)
        far = (head.distances(states) > head.reach).tolist()
        found = []
        for text, row, is_far in zip(texts, head.probabilities(states).tolist(), far, strict=True):
            one = decide(text, dict(zip(self.tasks, row, strict=True)), self.margin)
            best = one.candidates[0][0]
            if is_far[self.tasks.index(best)]:
                one = Found(text, None, one.candidates, f"it is unlike the texts of {best!r}, the best")
            found.append(one)
        return found


def predictor_for(
    run: str | Path,
    texts: Sequence[str],
    *,
    kind: str | None = None,
    seed: int | None = None,
    language: str | None = None,
    root: str | Path | None = None,
) -> tuple[Predictor, Found | None]:
    """Return the predictor of the task that some typed texts belong to, and how the task was found.

    Args:
        run: The run's folder.
        texts: The texts of one row, as for `answers`.
        kind: As for `Predictor`.
        seed: As for `Predictor`.
        language: As for `Predictor`.
        root: As for `Predictor`.

    Returns:
        The predictor, and what was found; ``None`` where the run has only one target or one task.

    Raises:
        TaskError: If it is not clear which task they belong to, with the score of every task.
        RecipeError: If the run cannot find tasks, or has no unit done for the task that was found.
    """
    if only_task(recipe_of(Path(run))) is not None:
        return Predictor(run, kind=kind, seed=seed, language=language, root=root), None
    finder = RunFinder(run, root=root)
    (found,) = finder.find([joined(texts)])
    task = found.require()
    predictor = Predictor(run, task, kind=kind, seed=seed, language=language, root=root, adapters=finder.adapters)
    return predictor, found


def _descriptions(recipe: Recipe, run: Path) -> dict[str, list[str]]:
    """Return the descriptions and prompts of the text tasks in a recipe."""
    texts = {name: list(recipe.tasks[name].described) for name in tasks_of_text(recipe)}
    without = [name for name, described in texts.items() if not described]
    if len(texts) < 2 or without:
        lacking = f", and the recipe has no description of {', '.join(without)}" if without else ""
        raise RecipeError(
            f"{run} has no trained finder of tasks{lacking}; say which task, --task NAME (in Python task=NAME): there are "
            f"{', '.join(recipe.tasks)}. The same `graftwork run` makes a finder where two tasks of text or more have "
            "enough rows"
        )
    return texts
