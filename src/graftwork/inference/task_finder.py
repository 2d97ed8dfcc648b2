"""The task of a prompt: the described task whose words are nearest, by the plain base's own states; or none, where two are as near.

    similarity(task) = max over its descriptions d of cos(e(prompt), e(d))

with e the mean of the last hidden states over unpadded positions, nothing active. Where the nearest leads the next by less than
``margin``, or is itself under ``least``, nothing is guessed.
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
    """What a prompt was found to ask for.

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
        """How far the nearest is in front of the next."""
        first, second = self.candidates[:2]
        return first[1] - second[1]

    @property
    def scores(self) -> str:
        """Every task with its score, as one reads it."""
        return ", ".join(f"{name!r} {value:.3f}" for name, value in self.candidates)

    def require(self) -> str:
        """The task's name.

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
    """The task with the best score, or none where it leads the next by less than a margin or is under a least score."""
    ordered = tuple(sorted(scores.items(), key=lambda item: -item[1]))
    (name, first), (_, second) = ordered[:2]
    if first < least:
        return Found(prompt, None, ordered, f"the best score is under {least:g}")
    if first - second < margin:
        return Found(prompt, None, ordered, f"the best score leads the next by less than {margin:g}")
    return Found(prompt, name, ordered)


def check_threshold(where: str, field: str, value: Any, most: int) -> None:
    """Refuse what is no number from 0 to a largest one.

    Raises:
        ConfigError: Naming it.
    """
    if not is_number(value) or not 0 <= value <= most:
        raise ConfigError(f"{where}: {field} is {value!r}; give a number from 0 to {most}")


class Described:
    """Finds the task of a prompt among described ones, whether the model has adapters for them or not.

    Args:
        adapters: The handle of the model; its base reads the prompts, with nothing active.
        tokenizer: Of the base.
        descriptions: For each task one description or several.
        margin: The lead of the nearest over the next under which nothing is guessed.
        least: The similarity of the nearest under which nothing is guessed.

    Raises:
        ConfigError: If there are fewer than two tasks, one has no description, or a threshold is no number from 0 to 2.
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
            self.tasks[name] = self._read(given)

    def _read(self, texts: Sequence[str]) -> Tensor:
        return nn.functional.normalize(text_states(self.adapters, texts, self.tokenizer).double(), dim=-1)

    def find(self, prompts: Sequence[str]) -> list[Found]:
        """The task of each prompt.

        Raises:
            ConfigError: If there are no prompts.
        """
        states = self._read(prompts)
        near = [(states @ rows.T).amax(1).tolist() for rows in self.tasks.values()]
        return [
            decide(prompt, dict(zip(self.tasks, row, strict=True)), self.margin, self.least)
            for prompt, *row in zip(prompts, *near, strict=True)
        ]

    def __call__(self, prompt: str) -> str:
        """The task's name of one prompt.

        Raises:
            TaskError: If it is not clear, with the score of every task.
        """
        return self.find([prompt])[0].require()


class TaskFinder(Described):
    """Finds the task of a prompt among described adapters and members of a model.

    Args:
        adapters: The handle of the model; its base reads the prompts, with nothing active.
        tokenizer: Of the base.
        descriptions: For each task, called as compositions call it (``"hyper:mnli"``), one description or several.
        margin: The lead of the nearest over the next under which nothing is guessed.
        least: The similarity of the nearest under which nothing is guessed.

    Raises:
        ConfigError: If there are fewer than two tasks, one has no description, or a threshold is no number from 0 to 2.
        UnknownNameError: If the model has no task of a name.
    """

    def __init__(
        self, adapters: Adapters, tokenizer: Any, descriptions: Mapping[str, str | Sequence[str]], **thresholds: Any
    ) -> None:
        for name in descriptions if isinstance(descriptions, Mapping) else ():
            adapters.kind_of(name)
        super().__init__(adapters, tokenizer, descriptions, **thresholds)
