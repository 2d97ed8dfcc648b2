"""What is known of a folder without loading it: its format, content, base, size, heads and history."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

OWN_HEAD = "the model's own"  # the kind of a head whose folder does not say of which class


class _Facts(BaseModel):
    """An object of plain values, JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class BaseInfo(_Facts):
    """The base that an adapter was trained on, as far as its folder says it.

    Attributes:
        name: The name or folder that it was loaded from.
        model_type: The type in its configuration, such as ``"bert"``.
        model_class: The name of its class.
        stacks: Each stack of layers with its number of layers and its width.
        width: Its width, where that is known and the stacks are not.
    """

    name: str | None = None
    model_type: str | None = None
    model_class: str | None = None
    stacks: dict[str, tuple[int, int]] = {}
    width: int | None = None

    def __str__(self) -> str:
        sizes = [f"{layers} × {width}" for layers, width in self.stacks.values()]
        sizes = sizes or ([f"{self.width} wide"] if self.width else [])
        known = [self.name or self.model_type or self.model_class or "", *sizes]
        return " ".join(part for part in known if part) or "not known"


class HeadInfo(_Facts):
    """A head in a folder: its kind (or the class of the model that it belongs to) and its labels."""

    kind: str
    labels: tuple[str, ...] = ()
    member: str = ""


class History(_Facts):
    """Where an adapter comes from, as far as its folder, or the run around it, says it.

    Attributes:
        written_by: The library that wrote the folder, with its version.
        run: The folder of the run.
        unit: The training in that run.
        task: The task that it was trained on.
        seed: The training's seed.
        metric: The metric of its score.
        score: Its score.
        scored_on: The rows of that score, such as ``"dev"``.
    """

    written_by: str | None = None
    run: Path | None = None
    unit: str | None = None
    task: str | None = None
    seed: int | None = None
    metric: str | None = None
    score: float | None = None
    scored_on: str | None = None


class FolderInfo(_Facts):
    """What a folder holds, read from its JSON and the headers of its tensors; nothing of it was loaded.

    Attributes:
        folder: The folder, to be given to ``load``.
        format: ``"graftwork"``, ``"adapterhub"`` or ``"peft"``; empty where that is not known.
        kind: ``"adapter"``, ``"fusion"``, ``"head"``, ``"composition"``, ``"base"`` (the difference of a trained base), ``"run"``,
            or ``"damaged"``.
        name: Its name.
        method: The method's or the block's name.
        options: The options of its configuration.
        members: The adapters of a fusion's pool, or the parts of a composition or a run.
        base: The base that it was trained on.
        weights: The number of its weights, without heads.
        head_weights: The number of weights of its heads.
        bytes: The size of its files.
        heads: Its heads.
        history: Where it comes from.
        modified: When it was written.
        damage: Why it cannot be used; ``None`` where nothing wrong was seen.
    """

    folder: Path
    format: str = ""
    kind: str
    name: str
    method: str = ""
    options: dict[str, Any] = {}
    members: tuple[str, ...] = ()
    base: BaseInfo = BaseInfo()
    weights: int = 0
    head_weights: int = 0
    bytes: int = 0
    heads: tuple[HeadInfo, ...] = ()
    history: History = History()
    modified: datetime.datetime | None = None
    damage: str | None = None

    @property
    def task(self) -> str | None:
        """The task that it was trained on, where its run says it."""
        return self.history.task
