"""A second implementation of every composition: plain recursion, a loop over rows, the formulas as published."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.compose import FusionModule, RouteModule, ScaLearnModule, config_class
from graftwork.methods import AdapterModule
from tests.support import formulas as formula
from tests.support import models_by_hand as by_hand
from tests.support.models_by_hand import Additions, Here, Norm
from tests.zoo.models import build


@functools.lru_cache
def sites_of(name: str) -> gw.SiteMap:
    """The sites of a model of the zoo, found once."""
    return gw.discover(build(name).model)


class Lab:
    """A tiny float64 model with adapters, and an untouched copy of it that is run by hand."""

    def __init__(self, name: str, seed: int = 0) -> None:
        zoo = build(name, torch.float64, seed)
        self.inputs = {k: v for k, v in zoo.inputs.items() if k in ("input_ids", "attention_mask")}
        self.plain = copy.deepcopy(zoo.model)
        self.model = zoo.model
        self.by_hand = by_hand.MODELS[name]
        self.adapters = gw.attach(zoo.model, sites=sites_of(name))

    def add(self, name: str, config: gw.AdapterConfig) -> None:
        """Add an adapter in float64, every weight of it moved off its start."""
        self.adapters.add(name, gw.config_from_dict({**config.to_dict(), "dtype": "float64"}))
        self.unsettle(name)

    def add_fusion(self, block: gw.Learned, **options: Any) -> None:
        """Add a fusion in float64, every weight of it moved off its start."""
        self.adapters.add_fusion(block, config_class(block)(**options, dtype="float64"))
        self.unsettle(block.name)

    def unsettle(self, name: str, std: float = 0.3) -> None:
        """Random numbers on every weight of an adapter or a fusion."""
        owners = [*self.adapters.modules_of(name).values()]
        owners += [*self.adapters.norms_of(name).values()] if name in self.adapters.names else []
        shared = self.adapters.shared_of(name)
        owners += [] if shared is None else [shared]
        unsettle(owners, sum(name.encode()), std)

    def run(self, composition: Any, **inputs: Any) -> Tensor:
        """The library's output."""
        with self.adapters.using(composition):
            return self.model(**(inputs or self.inputs)).last_hidden_state

    def expect(self, composition: Any, **inputs: Any) -> Tensor:
        """The output by hand."""
        return self.by_hand(self.plain, inputs or self.inputs, Interpreter(self.adapters, composition))


def unsettle(modules: Sequence[nn.Module], seed: int, std: float = 0.3) -> None:
    """Add random numbers to every weight."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                p.add_(torch.randn(p.shape, generator=draw, dtype=torch.float64).to(p.dtype), alpha=std)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Equal to so much of the largest number."""
    assert actual.shape == expected.shape
    scale = max(float(expected.detach().abs().max()), 1e-30)
    worst = float((actual - expected).detach().abs().max()) / scale
    assert worst <= tolerance, f"off by {worst:.2e} of the largest number, {scale:.2e}"


class Interpreter(Additions):
    """What a composition adds."""

    def __init__(self, adapters: gw.Adapters, composition: Any) -> None:
        self.handle, self.composition = adapters, composition
        names = adapters.names
        self.modules: dict[str, Mapping[str, Any]] = {n: adapters.modules_of(n) for n in names}
        self.fusions: dict[str, Mapping[str, Any]] = {n: adapters.modules_of(n) for n in adapters.fusions}
        self.own_norms = {n: adapters.norms_of(n) for n in names}

    def rows(self, rows: int) -> int:
        parts = self.composition.walk() if isinstance(self.composition, gw.Block) else []
        return rows * next((len(p.children) for p in parts if isinstance(p, gw.Replicate)), 1)

    def branch(self, here: Here) -> Tensor | float:
        found = self.delta(self.composition, here, "branch")
        return 0.0 if found is None else found

    def stream(self, here: Here) -> Tensor | float:
        found = self.delta(self.composition, here, "stream")
        return 0.0 if found is None else found

    def norms(self, path: str, norm: nn.Module, rows: int) -> list[Norm]:
        chosen = self.norm_by_row(self.composition, path, rows)
        return [norm if one is None else one for one in chosen]

    # -- the compositions ------------------------------------------------------------------------------------------

    def delta(self, composition: Any, here: Here, writes: str) -> Tensor | None:
        """What a composition adds at one site; ``None`` where nothing of it stands."""
        if not self.stands(composition, here.key, writes):
            return None
        if isinstance(composition, str):
            module: AdapterModule = self.modules[composition][here.key]
            config = self.handle.config(composition)
            assert isinstance(config, gw.AdapterConfig)
            if here.kind == "projection":
                return formula.projection(config, module, here.input, here.output, here.base)
            return formula.adapter(config, module, here.read(module.reads), here.mask, here.causal)
        if isinstance(composition, gw.Stack):
            return self._stack(composition, here, writes)
        if isinstance(composition, gw.Drop):
            return self.delta(composition.children[0], here, writes)
        if isinstance(composition, (gw.Average, gw.Learned)):
            parts = [self.delta(child, here, writes) for child in composition.children]
            zs = [torch.zeros_like(here.output) if p is None else p for p in parts]
            weigh = {"average": self._average, "fuse": self._fuse, "scalearn": self._scalearn, "route": self._route}
            return weigh[composition.kind](composition, here, zs)
        if isinstance(composition, gw.Split):
            total, start = torch.zeros_like(here.output), 0
            for child, size in zip(composition.children, composition.options["splits"], strict=True):
                part = self.delta(child, here.positions(start, start + size), writes) if size else None
                if part is not None:
                    total[:, start : start + size] = part
                start += size
            return total
        owners = owners_of(composition, len(here.output))
        total = torch.zeros_like(here.output)
        for n, child in enumerate(composition.children):
            rows = [row for row, owner in enumerate(owners) if owner == n]
            part = self.delta(child, here.rows(rows), writes) if rows else None
            if part is not None:
                total[rows] = part
        return total

    def stands(self, composition: Any, key: str, writes: str) -> bool:
        """Whether any adapter in a composition stands at a site."""
        if isinstance(composition, gw.Drop):
            layer = next(int(part) for part in key.split(".") if part.isdigit())
            layers = composition.options["layers"]
            if layer < layers if isinstance(layers, int) else layer in layers:
                return False
        if isinstance(composition, gw.Block):
            return any(self.stands(child, key, writes) for child in composition.children)
        module = None if composition is None else self.modules[composition].get(key)
        return module is not None and module.writes == writes

    def _stack(self, block: gw.Stack, here: Here, writes: str) -> Tensor | None:
        total = None
        for child in block.children:
            part = self.delta(child, here, writes)
            if part is not None:
                here = here.after(part)
                total = part if total is None else total + part
        return total

    def _average(self, block: gw.Average, here: Here, zs: list[Tensor]) -> Tensor:
        weights = block.options["weights"] or [1.0] * len(zs)
        if block.options["normalize"]:
            weights = [w / sum(weights) for w in weights]
        return sum((w * z for w, z in zip(weights, zs, strict=True)), torch.zeros_like(zs[0]))

    def _fuse(self, block: gw.Fuse, here: Here, zs: list[Tensor]) -> Tensor:
        module: FusionModule = self.fusions[block.name][here.key]
        residual = here.output if module.config.residual_before else None
        return formula.fusion(module, here.read(module.reads), zs, residual)[0]

    def _scalearn(self, block: gw.ScaLearn, here: Here, zs: list[Tensor]) -> Tensor:
        module: ScaLearnModule = self.fusions[block.name][here.key]
        (scales,) = module.weights()
        return formula.scalearn(torch.stack([scales[module.pool.index(c)] for c in block.children]), zs)

    def _route(self, block: gw.Route, here: Here, zs: list[Tensor]) -> Tensor:
        module: RouteModule = self.fusions[block.name][here.key]
        rows = torch.stack([module.gate.weight[module.pool.index(c)] for c in block.children])
        return formula.route(here.read(module.reads) @ rows.T, min(module.config.top_k, len(zs)), zs)

    def norm_by_row(self, composition: Any, path: str, rows: int) -> list[nn.Module | None]:
        """Whose norm each row uses; ``None`` for the model's."""
        if composition is None:
            return [None] * rows
        if isinstance(composition, str):
            return [self.own_norms[composition].get(path)] * rows
        if isinstance(composition, gw.Stack):
            each = [self.norm_by_row(child, path, rows) for child in composition.children]
            return [
                next((norms[row] for norms in reversed(each) if norms[row] is not None), None) for row in range(rows)
            ]
        if isinstance(composition, gw.Drop):
            return self.norm_by_row(composition.children[0], path, rows)
        if isinstance(composition, (gw.BatchSplit, gw.MixedBatch, gw.Replicate)):
            owners = owners_of(composition, rows)
            inside = [self.norm_by_row(c, path, owners.count(n)) for n, c in enumerate(composition.children)]
            return [inside[owner].pop(0) for owner in owners]
        return [None] * rows


def owners_of(block: Any, rows: int) -> list[int]:
    """The child that each row belongs to."""
    if isinstance(block, gw.Replicate):
        return [row // (rows // len(block.children)) for row in range(rows)]
    if isinstance(block, gw.MixedBatch):
        assert rows == len(block.children)
        return list(range(rows))
    sizes = block.options["batch_sizes"]
    if isinstance(sizes, int):
        return [row // sizes for row in range(rows)]
    assert rows == sum(sizes)
    return [child for child, size in enumerate(sizes) for _ in range(size)]
