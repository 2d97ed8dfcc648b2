"""The task of a run that a text asks for: by the finder that the run has trained, else by what the recipe says of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graftwork.api import Adapters, attach
from graftwork.errors import RecipeError
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import auto_class, load_base, load_processor
from graftwork.experiments.running.finder import FOLDER, joined, read_finder, tasks_of_text
from graftwork.experiments.running.folder import recipe_of, root_of
from graftwork.inference.predictor import Predictor, only_task
from graftwork.inference.task_finder import Described, Found, check_threshold, decide
from graftwork.training.text_states import text_states

MARGIN = 0.2


class RunFinder:
    """Finds the task of a run that a text asks for, or none.

    A run of two tasks of text or more has trained it (``finder/`` in its folder): the score of a task is its probability, and
    a text is refused where the best leads the next by less than ``margin``, or where the text lies further from the best
    task's training texts than 95 % of that task's own do. In a run that has none the ``description`` and ``prompts``
    of its tasks decide, as `TaskFinder` does.

    Args:
        run: The run's folder.
        margin: The lead in probability under which nothing is guessed.
        root: What the recipe's paths are relative to; by default where the recipe lay when the run began.

    Attributes:
        tasks: The tasks that it tells apart.
        adapters: The handle of the base, with nothing on it.

    Raises:
        RecipeError: If the run has neither, or its finder is damaged or of another base.
        ConfigError: If the margin is no number from 0 to 1.
    """

    def __init__(self, run: str | Path, *, margin: float = MARGIN, root: str | Path | None = None) -> None:
        check_threshold("RunFinder", "margin", margin, 1)
        self.run, self.margin = Path(run), margin
        self.recipe = recipe_of(self.run)
        root = root_of(self.run, root)
        at = self.run / FOLDER
        self._kept = read_finder(at)
        described = {} if self._kept is not None else _descriptions(self.recipe, self.run)
        self.tasks: tuple[str, ...] = self._kept.tasks if self._kept is not None else tuple(described)
        every = self.recipe.kinds
        self.processor = load_processor(self.recipe.base, every, root)
        self.adapters: Adapters = attach(load_base(self.recipe.base, auto_class(every), root).eval())
        self._described = Described(self.adapters, self.processor, described) if described else None
        if self._kept is not None:
            self._kept.check_base(self.adapters, self.processor, at)

    def find(self, texts: Sequence[str]) -> list[Found]:
        """The task of each text.

        Raises:
            ConfigError: If there are no texts.
        """
        if self._kept is None:
            assert self._described is not None  # a run with neither was refused
            return self._described.find(texts)
        head = self._kept.head
        states = text_states(self.adapters, texts, self.processor, max_length=self.recipe.base.max_length)
        beyond = (head.distances(states) > head.reach).tolist()
        found = []
        for text, row, is_far in zip(texts, head.probabilities(states).tolist(), beyond, strict=True):
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
    """What predicts of some typed texts, by the task that they ask for, and how that was found.

    Args:
        run: The run's folder.
        texts: What one types, as for `answers`: together they are one row.
        kind: As for `Predictor`.
        seed: As for `Predictor`.
        language: As for `Predictor`.
        root: As for `Predictor`.

    Returns:
        The predictor, and what was found; ``None`` where the run has one target or one task, which needs no finding.

    Raises:
        TaskError: If it is not clear which task is asked for, with the score of every task.
        RecipeError: If the run cannot find tasks, or has nothing done of the one that was found.
    """
    if only_task(recipe_of(Path(run))) is not None:
        return Predictor(run, kind=kind, seed=seed, language=language, root=root), None
    finder = RunFinder(run, root=root)
    (found,) = finder.find([joined(texts)])
    task = found.require()
    predictor = Predictor(run, task, kind=kind, seed=seed, language=language, root=root, adapters=finder.adapters)
    return predictor, found


def _descriptions(recipe: Recipe, run: Path) -> dict[str, list[str]]:
    """What a recipe says of its tasks of text."""
    texts = {name: recipe.tasks[name].described for name in tasks_of_text(recipe)}
    without = [name for name, said in texts.items() if not said]
    if len(texts) < 2 or without:
        lacking = f", and the recipe has no description of {', '.join(without)}" if without else ""
        raise RecipeError(
            f"{run} has no trained finder of tasks{lacking}; say which task, --task NAME (in Python task=NAME): there are "
            f"{', '.join(recipe.tasks)}. The same `graftwork run` makes a finder where two tasks of text or more have "
            "enough rows"
        )
    return {name: list(said) for name, said in texts.items()}
