"""The smaller tables of a recipe: the base, the methods that are compared, how tasks are mixed; and what names may be."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graftwork.experiments.planning.budget import Changes
from graftwork.methods import AdapterConfig, config_from_dict
from graftwork.tasks.spec import Length

# The variables that turn a tracker off, those of the trackers' own documentation.
_SWITCHES = {"wandb": "WANDB_DISABLED", "mlflow": "DISABLE_MLFLOW_INTEGRATION"}
LONGEST = 100  # bytes: files have more around it, and no name of a file may have more than 255


class Table(BaseModel):
    """A table of a recipe: a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseTable(Table):
    """``[base]``: the pretrained model.

    Attributes:
        model: A folder (relative to the recipe), an installed package that carries a model in ``model/``, or a name on the
            Hub.
        revision: The revision of a model on the Hub.
        dtype: The dtype of its weights.
        max_length: The length of a text in tokens, for tasks that give none.
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
        temperature: The temperature T.
        fall: How far the exponent falls from 1 to the last epoch, if it is annealed.
        batches: ``"one"``: all rows of a batch are of one task; ``"mixed"``: each row is drawn by itself.
    """

    kind: Literal["proportional", "uniform", "temperature", "annealed"] = "proportional"
    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    fall: Annotated[float, Field(ge=0, le=1)] = 0.8
    batches: Literal["one", "mixed"] = "one"


class TrackingTable(Table):
    """``[tracking]``: where the curves of every training are also written; nowhere by default.

    ``WANDB_DISABLED=true`` and ``DISABLE_MLFLOW_INTEGRATION=true`` in the environment turn one off.

    Attributes:
        to: ``"tensorboard"`` (into the run's folder), ``"wandb"`` (Weights & Biases) and ``"mlflow"``: each training is a run of
            theirs, and the table of results is one more.
        project: The project of Weights & Biases, and the experiment of MLflow; by default ``WANDB_PROJECT`` and
            ``MLFLOW_EXPERIMENT_NAME``, else ``graftwork``.
        name: What the names of those runs begin with; by default the name of the run's folder.
    """

    to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    project: Annotated[str, Field(min_length=1)] | None = None
    name: Annotated[str, Field(min_length=1)] | None = None

    @property
    def active(self) -> tuple[str, ...]:
        """Those that the environment does not turn off."""
        off = {name for name, key in _SWITCHES.items() if os.environ.get(key, "").upper() in ("1", "ON", "YES", "TRUE")}
        return tuple(name for name in dict.fromkeys(self.to) if name not in off)


def method_of(name: str, table: Mapping[str, Any]) -> AdapterConfig:
    """The adapter of one ``[methods.NAME]``: its options, and ``NAME`` where it gives no ``method``.

    ``peft = {peft_type = "LORA", r = 8}`` in it is a configuration of peft.

    Raises:
        ConfigError: If there is no such method, or an option is refused.
    """
    options = {key: value for key, value in table.items() if key != "training"}
    return config_from_dict({"method": "peft" if "peft" in options else name, **options})


def budget_of(table: Mapping[str, Any]) -> Changes:
    """What the training of one method changes: ``training`` in its table.

    Raises:
        ValidationError: If a key is not known.
    """
    return Changes.model_validate(table.get("training", {}))


def check_name(name: str, what: str) -> None:
    """Refuse a name that could not be that of an adapter, a folder and files on every system; ``what`` begins the message.

    Raises:
        ValueError: If it is empty, has spaces around it, or characters that no folder's name may have, or is too long.
    """
    strange = next((c for c in name if c in "/\\:" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if strange is not None:
        raise ValueError(f"{what} {name!r:.200}: its name is a folder's, which has no {strange!r}; leave it out")
    if not name or name != name.strip() or name[0] == "." or name[-1] == ".":
        raise ValueError(
            f"{what} {name!r:.200}: its name is a folder's, so not empty, without spaces around it, and no dot at its ends"
        )
    if len(name.encode()) > LONGEST:
        raise ValueError(f"{what} {name!r:.60}...: it has {len(name.encode())} bytes; give one of {LONGEST} or fewer")
