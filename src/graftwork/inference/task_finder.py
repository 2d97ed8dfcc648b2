"""The task of a prompt: the task whose description is nearest by the plain base's hidden states; or none where it is not clear.

    similarity(task) = max over its descriptions d of cos(e(prompt), e(d))

with e the mean of the last hidden states over unpadded positions, without any adapter. No task is found where the nearest leads the
next by less than ``margin``, or is below ``least``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from graftwork.api import Adapters
from graftwork.errors import ConfigError, TaskError
from graftwork.options import is_number
from graftwork.training.text_states import text_states

MARGIN, LEAST = 0.05, 0.3


@dataclasses.dataclass(frozen=True)
class Found:
    """The task that was found for a prompt.

    Attributes:
        prompt: The prompt.
        name: The task's name, or ``None`` where it is not clear.
        candidates: Every task with its score, the best first: a similarity, or a probability where the finder was trained.
        refused: Why it is not clear.
    """

    prompt: str
    name: str | None
    candidates: tuple[tuple[str, float], ...]
    refused: str = ""

    @property
    def lead(self) -> float:
        """The score of the best task minus that of the next."""
        (_, first), (_, second) = self.candidates[:2]
        return first - second

    @property
    def scores(self) -> str:
        """Every task with its score, as text."""
        return ", ".join(f"{name!r} {value:.3f}" for name, value in self.candidates)

    def require(self) -> str:
        """Return the task's name.

        Raises:
            TaskError: If it is not clear, with the score of every task.
        """
        if self.name is None:
            raise TaskError(
                f"which task the prompt {self.prompt!r:.200} asks for is not clear: {self.refused} (scores: {self.scores}); "
                "say which task, by its name: task=NAME, or --task NAME on the command line"
            )
        return self.name


def decide(prompt: str, scores: Mapping[str, float], margin: float, least: float = 0.0) -> Found:
    """Find the task with the best score, or none where it leads by less than ``margin`` or is below ``least``."""
    ordered = tuple(sorted(scores.items(), key=lambda item: -item[1]))
    (name, first), (_, second) = ordered[:2]
    if first < least:
        return Found(prompt, None, ordered, f"the best score is under {least:g}")
    if first - second < margin:
        return Found(prompt, None, ordered, f"the best score leads the next by less than {margin:g}")
    return Found(prompt, name, ordered)


def check_threshold(where: str, field: str, value: Any, most: int) -> None:
    """Raise a `ConfigError` for a value that is not a number from 0 to ``most``."""
    if not is_number(value) or not 0 <= value <= most:
        raise ConfigError(f"{where}: {field} is {value!r}; give a number from 0 to {most}")


class Described:
    """Finds the task of a prompt among described ones, whether the model has adapters for them or not.

    Args:
        adapters: The handle of the model; its base reads the prompts, without any adapter.
        tokenizer: The base's tokenizer.
        descriptions: For each task one description or several.
        margin: No task is found where the nearest leads the next by less than this.
        least: No task is found where the similarity of the nearest is below this.

    Raises:
        ConfigError: If there are fewer than two tasks, one has no description, or a threshold is not a number from 0 to 2.
    """

    def __init__(
        self,
        adapters: Adapters,
        tokenizer: Any,
        descriptions: Mapping[str, str | Sequence[str]],
        *,
        margin: float = MARGIN,
        least: float = LEAST,
    ) -> None:
        where = type(self).__name__
        for field, value in (("margin", margin), ("least", least)):
            check_threshold(where, field, value, 2)  # between two cosines
        if not isinstance(descriptions, Mapping) or len(descriptions) < 2:
            raise ConfigError(f"{where}: descriptions is {descriptions!r:.200}; describe two tasks or more, by name")
        self.adapters, self.tokenizer, self.margin, self.least = adapters, tokenizer, margin, least
        self.tasks: dict[str, Tensor] = {}
        for name, texts in descriptions.items():
            given = [texts] if isinstance(texts, str) else list(texts)
            if not given or not all(isinstance(t, str) and t.strip() for t in given):
                raise ConfigError(f"{where}: the descriptions of {name!r} are {given!r:.200}; give one text or more")
            self.tasks[name] = self._states(given)

    def _states(self, texts: Sequence[str]) -> Tensor:
        return nn.functional.normalize(text_states(self.adapters, texts, self.tokenizer).double(), dim=-1)

    def find(self, prompts: Sequence[str]) -> list[Found]:
        """Find the task of each prompt.

        Raises:
            ConfigError: If there are no prompts.
        """
        states = self._states(prompts)
        near = [(states @ rows.T).amax(1).tolist() for rows in self.tasks.values()]
        return [
            decide(prompt, dict(zip(self.tasks, row, strict=True)), self.margin, self.least)
            for prompt, *row in zip(prompts, *near, strict=True)
        ]

    def __call__(self, prompt: str) -> str:
        """Return the name of the task of one prompt.

        Raises:
            TaskError: If it is not clear, with the score of every task.
        """
        return self.find([prompt])[0].require()


class TaskFinder(Described):
    """Finds the task of a prompt among described adapters and members of a model.

    Args:
        adapters: The handle of the model; its base reads the prompts, without any adapter.
        tokenizer: The base's tokenizer.
        descriptions: For each task, by its name in compositions (``"hyper:mnli"``), one description or several.
        margin: No task is found where the nearest leads the next by less than this.
        least: No task is found where the similarity of the nearest is below this.

    Raises:
        ConfigError: If there are fewer than two tasks, one has no description, or a threshold is not a number from 0 to 2.
        UnknownNameError: If the model has no adapter or member of that name.
    """

    def __init__(
        self, adapters: Adapters, tokenizer: Any, descriptions: Mapping[str, str | Sequence[str]], **thresholds: Any
    ) -> None:
        for name in descriptions if isinstance(descriptions, Mapping) else ():
            adapters.kind_of(name)
        super().__init__(adapters, tokenizer, descriptions, **thresholds)
