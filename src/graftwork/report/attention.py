"""Where the fusions of a run look, as an array: sites × adapters, the mean over the seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.report.site_names import in_order
from graftwork.training.planning.kinds import UNIT_KINDS

_FIRST = "fusion"  # what a run is for; other kinds are held against it


@dataclasses.dataclass(frozen=True)
class Attention:
    """The mean attention of a target's fusion.

    Attributes:
        target: The task.
        sites: Labels of the rows.
        adapters: Of the columns.
        own: Which of them is the target's own.
        weights: Each row is one in all.
        seeds: Over how many it is the mean.
        kind: Of the fusion.
    """

    target: str
    sites: list[str]
    adapters: list[str]
    own: int | None
    weights: NDArray[np.float64]
    seeds: int
    kind: str = _FIRST

    @property
    def name(self) -> str:
        """What its picture's file begins with."""
        return "attention" if self.kind == _FIRST else f"attention_{self.kind}"

    @property
    def title(self) -> str:
        """The target, with the kind of fusion where it is none of all adapters."""
        return self.target if self.kind == _FIRST else f"{self.target}, {UNIT_KINDS[self.kind].title}"


def attention_of(results: Mapping[str, Any], target: str, kind: str = _FIRST) -> Attention | None:
    """What the fusions of a target look at; ``None`` where none is done.

    Args:
        results: What ``results.json`` says.
        target: The task.
        kind: One that fuses: ``fusion``, ``fusion_mt``, ``own`` or ``copies``.
    """
    units = [unit for unit in results["units"] if (unit["kind"], unit["task"]) == (kind, target)]
    units = [unit for unit in units if unit.get("attention", {}).get("sites")]
    found = [unit["attention"] for unit in units]
    if not found:
        return None
    adapters = found[0]["adapters"]
    # seeds see the same adapters and sites, but for copies, which are others for each: of those the first seed's are shown
    found = [one for one in found if one["adapters"] == adapters and set(one["sites"]) == set(found[0]["sites"])]
    labels = in_order(found[0]["sites"])
    weights = np.mean([[one["sites"][site] for site in labels] for one in found], axis=0)
    own = _own(units[0], target)
    return Attention(target, list(labels.values()), list(adapters), own, weights, len(found), kind)


def attentions(results: Mapping[str, Any], targets: Sequence[str]) -> list[Attention]:
    """What all fusions look at that have a choice, over two adapters or more: by kind, `fusion` first, and by target.

    Args:
        results: What ``results.json`` says.
        targets: The tasks.
    """
    kinds = sorted((kind.name for kind in UNIT_KINDS.values() if kind.fuses), key=lambda kind: kind != _FIRST)
    seen = [attention_of(results, target, kind) for kind in kinds for target in targets]
    return [one for one in seen if one is not None and len(one.adapters) > 1]


def _own(unit: Mapping[str, Any], target: str) -> int | None:
    """Which adapter of a fusion is the target's: the one of its name, among copies that of the fusion's own seed."""
    adapters, members = unit["attention"]["adapters"], unit.get("members", [])
    if target in adapters:
        return int(adapters.index(target))
    own = f"adapter/{target}/{unit.get('seed')}"
    return int(members.index(own)) if own in members and len(members) == len(adapters) else None
