"""Where the fusions of a run look, as an array: sites × adapters, the mean over the seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.report.site_names import in_order


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
    """

    target: str
    sites: list[str]
    adapters: list[str]
    own: int | None
    weights: NDArray[np.float64]
    seeds: int


def attention_of(results: Mapping[str, Any], target: str, kind: str = "fusion") -> Attention | None:
    """What the fusions of a target look at; ``None`` where none is done.

    Args:
        results: What ``results.json`` says.
        target: The task.
        kind: ``fusion``, ``own`` or ``copies``.
    """
    units = [unit for unit in results["units"] if (unit["kind"], unit["task"]) == (kind, target)]
    found = [unit["attention"] for unit in units if unit.get("attention", {}).get("sites")]
    if not found:
        return None
    adapters = found[0]["adapters"]
    # seeds see the same adapters and sites; a file that was changed by hand shall not be averaged over
    found = [one for one in found if one["adapters"] == adapters and set(one["sites"]) == set(found[0]["sites"])]
    labels = in_order(found[0]["sites"])
    weights = np.mean([[one["sites"][site] for site in labels] for one in found], axis=0)
    own = adapters.index(target) if target in adapters else None
    return Attention(target, list(labels.values()), list(adapters), own, weights, len(found))
