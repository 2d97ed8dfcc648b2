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
from graftwork.training.answering.souping import text_states


@dataclasses.dataclass(frozen=True)
class Found:
    """What a prompt was found to ask for.

    Attributes:
        prompt: The prompt.
        name: The task's name, or ``None`` where it is not clear.
        candidates: Every task with its similarity, the nearest first.
    """

    prompt: str
    name: str | None
    candidates: tuple[tuple[str, float], ...]

    @property
    def lead(self) -> float:
        """How far the nearest is in front of the next."""
        first, second = self.candidates[:2]
        return first[1] - second[1]

    def require(self) -> str:
        """The task's name.

        Raises:
            TaskError: If it is not clear, with the nearest ones.
        """
        if self.name is None:
            near = " or ".join(f"{name!r} ({value:.3f})" for name, value in self.candidates[:2])
            raise TaskError(f"the prompt {self.prompt!r:.200} could ask for {near}; say which task, by its name")
        return self.name


class TaskFinder:
    """Finds the task of a prompt among described ones.

    Args:
        grafts: The handle of the model; its base reads the prompts, with nothing active.
        tokenizer: Of the base.
        descriptions: For each task, called as compositions call it (``"hyper:mnli"``), one description or several.
        margin: The lead of the nearest over the next under which nothing is guessed.
        least: The similarity of the nearest under which nothing is guessed.

    Raises:
        ConfigError: If there are fewer than two tasks, one has no description, or a threshold is no number from 0 to 2.
        UnknownNameError: If the model has no task of a name.
    """

    def __init__(
        self,
        grafts: Adapters,
        tokenizer: Any,
        descriptions: Mapping[str, str | Sequence[str]],
        *,
        margin: float = 0.05,
        least: float = 0.0,
    ) -> None:
        for field, value in (("margin", margin), ("least", least)):
            if not is_number(value) or not 0 <= value <= 2:
                raise ConfigError(f"TaskFinder: {field} is {value!r}; give a number from 0 to 2, between two cosines")
        if not isinstance(descriptions, Mapping) or len(descriptions) < 2:
            raise ConfigError(f"TaskFinder: descriptions is {descriptions!r:.200}; describe two tasks or more, by name")
        self.grafts, self.tokenizer, self.margin, self.least = grafts, tokenizer, margin, least
        self.tasks: dict[str, Tensor] = {}
        for name, texts in descriptions.items():
            grafts.kind_of(name)
            given = [texts] if isinstance(texts, str) else list(texts)
            if not given or not all(isinstance(t, str) and t.strip() for t in given):
                raise ConfigError(f"TaskFinder: the descriptions of {name!r} are {given!r:.200}; give one text or more")
            self.tasks[name] = self._read(given)

    def _read(self, texts: Sequence[str]) -> Tensor:
        return nn.functional.normalize(text_states(self.grafts, texts, self.tokenizer).double(), dim=-1)

    def find(self, prompts: Sequence[str]) -> list[Found]:
        """The task of each prompt.

        Raises:
            ConfigError: If there are no prompts.
        """
        states = self._read(prompts)
        names = list(self.tasks)
        near = [(states @ rows.T).amax(1).tolist() for rows in self.tasks.values()]
        return [
            self._decide(prompt, dict(zip(names, row, strict=True)))
            for prompt, *row in zip(prompts, *near, strict=True)
        ]

    def _decide(self, prompt: str, similarity: Mapping[str, float]) -> Found:
        ordered = tuple(sorted(similarity.items(), key=lambda item: -item[1]))
        (name, first), (_, second) = ordered[:2]
        clear = first - second >= self.margin and first >= self.least
        return Found(prompt, name if clear else None, ordered)

    def __call__(self, prompt: str) -> str:
        """The task's name of one prompt.

        Raises:
            TaskError: If it is not clear, with the nearest ones.
        """
        return self.find([prompt])[0].require()
