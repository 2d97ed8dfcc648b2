"""Gates of PHATGOOSE, each trained with its adapter alone, joined into one block that routes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from graftwork.attach.planning import new_fusion
from graftwork.attach.state import ModelState
from graftwork.compose import Composition, Learned, LearnedConfig, LearnedModule, Route, RouteConfig
from graftwork.errors import CompositionError
from graftwork.weights.names import check_new, unknown


def join_gates(
    state: ModelState, name: str, gates: Sequence[str], top_k: int
) -> tuple[Learned, LearnedConfig, dict[int, LearnedModule]]:
    """The block, not added yet; see `graftwork.attach.combining.Combining.join_gates`."""
    check_new(name, state, "a fusion")
    children: list[Composition] = []
    configs: list[RouteConfig] = []
    for one in gates:
        if one not in state.fusions:
            raise unknown(one, state.fusions, "fusion")
        block, config = state.fusions[one], state.config(one)
        if not (isinstance(config, RouteConfig) and config.gate == "phatgoose" and len(block.children) == 1):
            raise CompositionError(
                f"join_gates: {one!r} is {block!r}; give blocks of one adapter whose gate is 'phatgoose': "
                "add_fusion(gw.Route('a', name='gate_a'), gw.RouteConfig(gate='phatgoose', top_k=1))"
            )
        children, configs = [*children, *block.children], [*configs, config]
    if len(children) < 2:
        raise CompositionError(f"join_gates: {list(gates)} is not two gates or more")
    if len({config.reads for config in configs}) > 1:
        raise CompositionError(f"join_gates: {list(gates)} read different tensors; train them with equal reads")
    joined = Route(*children, name=name)
    whole = dataclasses.replace(configs[0], top_k=top_k)
    modules = new_fusion(state, joined, whole)
    sources = [state.modules_of(one) for one in gates]
    with torch.no_grad():
        for place, module in modules.items():
            key = state.sites.key_of(state.sites.places[place])
            for row, source in enumerate(sources):
                if key in source:
                    module.get_parameter("gate.weight")[row] = source[key].get_parameter("gate.weight")[0]
    return joined, whole, modules
