"""The attention of a run's fusions as an array, a table and a plot: sites × adapters, the mean over the seeds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.report.formatting import kind_label
from graftwork.report.plots import heat, panels
from graftwork.report.table import Table
from graftwork.sites.site import KINDS

_FIRST = "fusion"  # the kind that the others are compared with
_SHORT = {"attention": "attn", "cross_attention": "cross", "feed_forward": "ffn", "embedding": "emb"}
_KEY = re.compile(rf"(?:(.+)\.)?(\d+)\.({'|'.join(KINDS)})(?:_(\d+))?")


@dataclasses.dataclass(frozen=True)
class Attention:
    """The mean attention of a target's fusion.

    Attributes:
        target: The task.
        sites: Labels of the rows.
        adapters: Labels of the columns.
        own: The index of the target's own adapter, if there is one.
        weights: The attention, sites × adapters; each row adds up to 1.
        seeds: The number of seeds.
        kind: The kind of fusion.
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
        """The beginning of its plot's file name."""
        return "attention" if self.kind == _FIRST else f"attention_{self.kind}"

    @property
    def heading(self) -> str:
        """Its heading on a page."""
        return f"Where the fusion for {self.target} looks: {kind_label(self.kind, len(self.adapters))}"

    @property
    def caption(self) -> str:
        """How to read its plot."""
        mean = f", the mean of {self.seeds} seeds" if self.seeds > 1 else ""
        own = "; the target's own adapter is framed" if self.own is not None else ""
        return f"Attention on the dev rows{mean}; each row adds up to 1{own}."

    @property
    def title(self) -> str:
        """The target, with the kind of fusion if that is not the one over all adapters."""
        return self.target if self.kind == _FIRST else f"{self.target}, {UNIT_KINDS[self.kind].title}"


def attention_of(results: Mapping[str, Any], target: str, kind: str = _FIRST) -> Attention | None:
    """The attention of a target's fusions of one kind in ``results.json``; ``None`` if none is done."""
    of_target = [unit for unit in results["units"] if (unit["kind"], unit["task"]) == (kind, target)]
    units = [unit for unit in of_target if (unit.get("attention") or {}).get("sites")]
    if not units:
        return None
    found = [unit["attention"] for unit in units]
    adapters = found[0]["adapters"]
    # seeds have the same adapters and sites, except for copies, of which each seed has its own: the first seed's are shown
    found = [one for one in found if one["adapters"] == adapters and set(one["sites"]) == set(found[0]["sites"])]
    labels = in_order(found[0]["sites"])
    weights = np.mean([[one["sites"][site] for site in labels] for one in found], axis=0)
    own = _own(units[0], target)
    return Attention(target, list(labels.values()), list(adapters), own, weights, len(found), kind)


def attentions(results: Mapping[str, Any], targets: Sequence[str]) -> list[Attention]:
    """The attention of all fusions over two adapters or more in ``results.json``: by kind, `fusion` first, and by target."""
    kinds = sorted((kind.name for kind in UNIT_KINDS.values() if kind.fuses), key=lambda kind: kind != _FIRST)
    seen = [attention_of(results, target, kind) for kind in kinds for target in targets]
    return [one for one in seen if one is not None and len(one.adapters) > 1]


def attention_table(one: Attention) -> Table:
    """The weights as numbers: a line for each site, a column for each adapter."""
    columns = ["site", *_names(one)]
    lines = [[site, *(f"{weight:.2f}" for weight in row)] for site, row in zip(one.sites, one.weights, strict=True)]
    return Table(one.heading, columns, lines, [])


def heat_maps(targets: Sequence[Attention]) -> Any:
    """A figure of one target or more on one colour scale."""
    rows, widest = max(len(one.sites) for one in targets), max(len(one.adapters) for one in targets)
    width, height = max(0.55 * widest + 1.4, 3.0), max(0.32 * rows + 1.4, 2.4)
    title = f"where the fusion {f'for {targets[0].target}' if len(targets) == 1 else 'of a target'} looks"
    figure, axes = panels(len(targets), width, height, title, columns=4, margin=0.8)
    from matplotlib.patches import Rectangle  # after `panels`, whose error says what to install

    for ax, one in zip(axes, targets, strict=True):
        texts = [[f"{weight:.2f}" for weight in row] for row in one.weights]
        image = heat(ax, one.weights, texts, one.sites, _names(one), cmap="viridis", vmin=0.0, vmax=1.0)
        if one.own is not None:
            ax.get_xticklabels()[one.own].set_fontweight("bold")
            frame = Rectangle((one.own - 0.5, -0.5), 1, len(one.sites), fill=False, edgecolor="red", linewidth=1.5)
            ax.add_patch(frame)
        ax.set_title(f"{one.title}{f' (mean of {one.seeds} seeds)' if one.seeds > 1 else ''}", fontsize="medium")
        ax.set(xlabel="adapter", ylabel="layer")
    figure.colorbar(image, ax=axes, label="mean attention", shrink=0.8)
    return figure


def _names(one: Attention) -> list[str]:
    return [f"{name} (own)" if n == one.own else name for n, name in enumerate(one.adapters)]


def _own(unit: Mapping[str, Any], target: str) -> int | None:
    """The index of the target's adapter in a fusion: the one of its name; among copies that of the fusion's seed."""
    adapters, members = unit["attention"]["adapters"], unit.get("members", [])
    if target in adapters:
        return int(adapters.index(target))
    own = f"adapter/{target}/{unit.get('seed')}"
    return int(members.index(own)) if own in members and len(members) == len(adapters) else None


def in_order(keys: Iterable[str]) -> dict[str, str]:
    """Keys of sites by stack and layer, each with a label without the parts that all have in common.

    Stacks keep their order, which is the model's: encoder before decoder. Keys of another form are last and unchanged.
    """
    keys = list(keys)
    sites = {
        key: (m[1] or "", int(m[2]), KINDS.index(m[3]), int(m[4] or 0)) for key in keys if (m := _KEY.fullmatch(key))
    }
    stacks = list(dict.fromkeys(stack for stack, *_ in sites.values()))
    short, several = _shortened(stacks), len({site[2:] for site in sites.values()}) > 1
    labels = {}
    for key, site in sorted(sites.items(), key=lambda one: (stacks.index(one[1][0]), *one[1][1:])):
        stack, layer, kind, number = site
        name = f"{_SHORT.get(KINDS[kind], KINDS[kind])}{f' {number + 1}' if number else ''}"
        labels[key] = " ".join(filter(None, [short[stack], str(layer), name if several else ""]))
    return {**labels, **{key: key for key in keys if key not in labels}}


def _shortened(stacks: list[str]) -> dict[str, str]:
    """The parts of names that tell stacks apart, such as encoder and decoder of ``encoder.block`` and ``decoder.block``."""
    if len(stacks) < 2:
        return dict.fromkeys(stacks, "")
    split = [stack.split(".") for stack in stacks]
    if len(set(map(len, split))) > 1:
        return {stack: stack for stack in stacks}
    differing = [n for n, parts in enumerate(zip(*split, strict=True)) if len(set(parts)) > 1]
    return {stack: ".".join(parts[n] for n in differing) for stack, parts in zip(stacks, split, strict=True)}
