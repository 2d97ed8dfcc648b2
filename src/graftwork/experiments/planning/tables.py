"""The tables of a recipe that stand for themselves: the base, the methods that are compared, how tasks are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graftwork.experiments.planning.budget import Changes
from graftwork.methods import AdapterConfig, config_from_dict
from graftwork.tasks.spec import Length
from graftwork.training.sampling import TaskMixing


class Table(BaseModel):
    """A table of a recipe: a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseTable(Table):
    """``[base]``: the pretrained model.

    Attributes:
        model: A folder (relative to the recipe), an installed package that carries a model in ``model/``, or a name on the
            Hub.
        revision: Of a model on the Hub.
        dtype: Of its weights.
        max_length: In tokens, where a task does not say.
        tokenizer: Where the tokenizer is, if not with the model.
    """

    model: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_length: Length = 128
    tokenizer: str | None = None


class MixingTable(Table):
    """``[mixing]``: how often each task is drawn where several are trained at once.

    Attributes:
        kind: ``"proportional"`` to the number of its rows, ``"uniform"``, ``"temperature"`` (∝ n^(1/T)), or ``"annealed"``.
        temperature: T.
        fall: How far the exponent falls from 1 to the last epoch, where it is annealed.
        batches: ``"one"``: all rows of a batch are of one task; ``"mixed"``: each row is drawn by itself.
    """

    kind: Literal["proportional", "uniform", "temperature", "annealed"] = "proportional"
    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    fall: Annotated[float, Field(ge=0, le=1)] = 0.8
    batches: Literal["one", "mixed"] = "one"

    @property
    def mixing(self) -> TaskMixing:
        """As a `TaskSampler` takes it."""
        return TaskMixing(kind=self.kind, temperature=self.temperature, fall=self.fall)


def method_of(name: str, table: Mapping[str, Any]) -> AdapterConfig:
    """The adapter of one ``[methods.NAME]``: its options, and the name where it says no ``method``.

    ``peft = {peft_type = "LORA", r = 8}`` in it is a configuration of peft.

    Raises:
        ConfigError: If there is no such method, or an option is refused.
    """
    options = {key: value for key, value in table.items() if key != "training"}
    return config_from_dict({"method": "peft" if "peft" in options else name, **options})


def budget_of(table: Mapping[str, Any]) -> Changes:
    """What one method's training does otherwise: ``training`` in its table.

    Raises:
        ValidationError: If a key is not known.
    """
    return Changes.model_validate(table.get("training", {}))
