"""What a model's sites must be, known without looking for sums: from its configuration and from which modules ran.

The number of layers comes from the configuration (`layer_counts`). Which lists of modules are those layers comes from
forward hooks and the names of what is inside (`stacks_that_ran`). Both are compared with what discovery found.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Any

import torch
from torch import nn

from graftwork.sites import SiteMap
from tests.zoo.models import clone_inputs
from tests.zoo.shrink_config import DECODER_LAYERS, LAYER_LISTS, LAYERS, STAGES
from tests.zoo.shrink_inputs import all_fields

LETTERS = {"attention": "A", "cross_attention": "X", "mixer": "M", "composite": "C", "feed_forward": "F"}
ORDER = "AXMCF"
STRICT = frozenset({"AF", "AXF", "MF", "M"})  # M: Mamba and its kin publish a mixer as their only branch
MIXES = re.compile(
    r"attn|attention(?!_bias)|mixer|mamba|ssm|fourier|recurrent|temporal_block|linear_attn|short_?conv|retention|mlstm|slstm"
    r"|time_mix|gated_?delta|pooling|modulation|self_att\b",
    re.IGNORECASE,
)


def layer_counts(config: Any) -> dict[str, int]:
    """Every number of layers that the configuration states, by the name of its field.

    ``{"num_hidden_layers": 2}`` for BERT, ``{"depths[0]": 2, "depths[1]": 2}`` for Swin. Fields of nested
    configurations that have the same name are told apart by a number.
    """
    found: dict[str, int] = {}
    for name, value in all_fields(config):
        entries: list[tuple[str, Any]] = []
        if name in LAYER_LISTS and isinstance(value, (list, tuple)):
            entries = [(f"len({name})", len(value))]
        elif name in (*STAGES, "depth") and isinstance(value, (list, tuple)):
            entries = [(f"{name}[{stage}]", number) for stage, number in enumerate(value)]
        elif LAYERS.match(name) or DECODER_LAYERS.match(name):
            entries = [(name, value)]
        for key, number in entries:
            if isinstance(number, int) and not isinstance(number, bool) and number > 0:
                same = sum(1 for other in found if other.partition("#")[0] == key)
                found[f"{key}#{same}" if same else key] = number
    return found


def stacks_that_ran(model: nn.Module, inputs: dict[str, Any], counts: dict[str, int]) -> dict[str, int]:
    """The lists of layers that one forward pass went through, with their number of layers, counted in calls.

    A list of layers is a list of modules each of which was called and holds attention (or a mixer) by its name, as
    many calls in all as some field of the configuration says. Of nested ones the innermost counts.
    """
    calls: collections.Counter[nn.Module] = collections.Counter()
    handles = [
        child.register_forward_hook(lambda module, args, output: calls.update([module]))
        for _, children in _lists(model)
        for child in children
    ]
    try:
        with torch.no_grad():
            model(**clone_inputs(inputs))
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, int] = {}
    for path, children in _lists(model):
        total = sum(calls[child] for child in children)
        if all(calls[child] and _mixes(child) for child in children) and total in counts.values():
            found[path] = total
    return {path: n for path, n in found.items() if not any(other.startswith(f"{path}.") for other in found)}


def _lists(model: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    lists = [
        (name, module) for name, module in model.named_modules() if isinstance(module, (nn.ModuleList, nn.Sequential))
    ]
    return [(name, [child for child in module if child is not None]) for name, module in lists if len(module)]


def _mixes(module: nn.Module) -> bool:
    return any(
        MIXES.search(f"{name.rpartition('.')[2]} {type(part).__name__}") for name, part in module.named_modules()
    )


def signatures(sites: SiteMap) -> dict[str, tuple[str, ...]]:
    """For every stack, the kinds in each layer as letters: ``{"encoder.layer": ("AF", "AF")}``. See `LETTERS`."""
    found: dict[str, tuple[str, ...]] = {}
    for stack in sites.stacks:
        layers = [
            "".join(sorted((LETTERS[site.kind] for site in layer if site.kind in LETTERS), key=ORDER.index))
            for layer in sites.layers(stack).values()
        ]
        if any(layers):
            found[stack] = tuple(layers)
    return found


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What discovery found, and what it had to find.

    Attributes:
        found: The kinds of each layer of each stack, as letters.
        expected: The number of layers of each stack that ran.
    """

    found: dict[str, tuple[str, ...]]
    expected: dict[str, int]

    @property
    def strict(self) -> bool:
        """Whether the stacks are the expected ones and every layer has exactly one of the usual forms."""
        numbers = {stack: len(layers) for stack, layers in self.found.items()}
        kinds = {signature for layers in self.found.values() for signature in layers}
        return bool(self.expected) and numbers == self.expected and kinds <= STRICT

    def __str__(self) -> str:
        found = "; ".join(f"{stack or '(root)'}: {' '.join(layers)}" for stack, layers in self.found.items())
        expected = "; ".join(f"{stack}: {number}" for stack, number in self.expected.items())
        return f"found {{{found}}}, expected {{{expected}}}"


def judge(model: nn.Module, inputs: dict[str, Any], sites: SiteMap) -> Judgement:
    """What discovery found in a transformers model, beside what its configuration and its modules say."""
    return Judgement(signatures(sites), stacks_that_ran(model, inputs, layer_counts(model.config)))
