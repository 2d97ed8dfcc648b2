"""What is known of an adapter or a composition, as plain data for its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.attach import Handle, ModelWithHeads
from graftwork.attach.summary import Row
from graftwork.checkpoint.saving import everything_in
from graftwork.compose import Block, Composition, names_in
from graftwork.hub.client import is_id


@dataclasses.dataclass(frozen=True)
class Score:
    """A score of what was trained.

    Attributes:
        metric: The metric: ``"accuracy"``.
        split: The rows that it was measured on: ``"dev"``.
        mean: The mean over the seeds.
        sd: The standard deviation over the seeds; ``None`` for one seed.
        seeds: The seeds.
    """

    metric: str
    split: str
    mean: float
    sd: float | None
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TrainingFacts:
    """How an adapter was trained, for its card.

    Attributes:
        task: The name of the task.
        task_type: The task as the Hub names it: ``"text-classification"``.
        data: The name of the data.
        seed: The seed of the training whose weights these are.
        scores: Its scores.
        settings: Options of the training by name: ``{"epochs": 3}``.
        versions: The versions of the libraries that it was made with.
    """

    task: str
    task_type: str
    data: str
    seed: int
    scores: tuple[Score, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PartFacts:
    """An adapter, a fusion or a head.

    Attributes:
        name: Its name.
        kind: ``"adapter"``, ``"fusion"`` or ``"head"``.
        method: Its method, or what it is.
        weights: The number of its weights, without its head.
        share: Its weights divided by those of the base.
        labels: The names of its head's outputs; ``None`` where it has no head.
        options: Its options as JSON values.
    """

    name: str
    kind: str
    method: str
    weights: int
    share: float
    labels: tuple[str, ...] | None
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is sent: its base and its parts.

    Attributes:
        base: The id of the base on the Hub; ``None`` where it is not there.
        base_type: The type of the base, as its configuration says, or its class.
        make: The code that makes the model that it is loaded onto.
        parts: Its parts.
        missing: The names of adapters that it needs and that are not sent.
    """

    base: str | None
    base_type: str
    make: str
    parts: tuple[PartFacts, ...]
    missing: tuple[str, ...]


def contents_of(handle: Handle, what: Composition, base: str | None) -> Contents:
    """What is known of an adapter, a fusion alone (by its name), or a composition on a model.

    Args:
        handle: The handle of the model.
        what: What is sent.
        base: The id of the base; by default what the model was loaded from, where that is no folder.

    Raises:
        UnknownNameError: If there is nothing of a name.
    """
    model = handle.model.base if isinstance(handle.model, ModelWithHeads) else handle.model
    config = getattr(model, "config", None)
    base = _known(getattr(config, "name_or_path", None)) if base is None else base
    names, missing = _names(handle, what)
    rows = handle.summary()
    parts = [_part(handle, rows.row(name)) for name in names]
    kind = type(model).__name__
    code = f"transformers.{kind}.from_pretrained({base!r})"
    if base is None or type(model).__module__.partition(".")[0] != "transformers":
        code = f"...  # a {kind} with the weights that it was trained on"
    elif isinstance(handle.model, ModelWithHeads):
        code = f"gw.ModelWithHeads({code})"
    return Contents(base, str(getattr(config, "model_type", None) or kind), code, tuple(parts), tuple(missing))


def _known(name: Any) -> str | None:
    """The id of a base on the Hub that a model's configuration names; ``None`` for a folder."""
    if not isinstance(name, str) or not is_id(name if "/" in name else f"x/{name}") or Path(name).exists():
        return None
    return name


def _names(handle: Handle, what: Composition) -> tuple[list[str], list[str]]:
    """The names of what is sent, and of the adapters that it needs besides."""
    if isinstance(what, str):
        pool = handle.fusions.get(what)
        return [what], [] if pool is None else [*dict.fromkeys(map(handle.owner_of, names_in(pool)))]
    inside = everything_in(handle, what) if isinstance(what, Block) else set()
    return [name for name in handle.parts if name in inside], []


def _part(handle: Handle, row: Row) -> PartFacts:
    name, kind = row.name, handle.kind_of(row.name)
    config, labels = handle.config(name), handle.labels(name)
    method = row.method if kind == "adapter" else type(handle.fusions.get(name, config)).__name__
    weights = row.head if kind == "head" else row.weights
    known = None if labels is None else tuple(labels.names)
    return PartFacts(name, kind, method, weights, row.share, known, config.to_dict())
