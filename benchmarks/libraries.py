"""This library, peft and `adapters` on one model: the same base weights in memory, and the same adapters."""

from __future__ import annotations

import copy
import functools
import importlib.util
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn

import graftwork as gw
from benchmarks.timing import Step
from graftwork.compose.fusion.fuse_node import FuseNode

RANK, ALPHA = 8, 16
HAS_HUB = importlib.util.find_spec("adapters") is not None  # AdapterHub's library


def shared(model: nn.Module) -> Any:
    """A copy of a model that has the same parameters, not copies of them."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()})


class Ours:
    """A copy of a model with adapters of this library.

    Args:
        base: The model.
        configs: The configurations, of the adapters ``a0``, ``a1``, ….
    """

    def __init__(self, base: nn.Module, configs: Sequence[gw.AdapterConfig]) -> None:
        self.model = shared(base)
        self.adapters = gw.attach(self.model)
        self.names = [f"a{n}" for n in range(len(configs))]
        for n, (name, config) in enumerate(zip(self.names, configs, strict=True)):
            self.adapters.add(name, config)
            _draw(self.adapters.modules_of(name).values(), n)

    def projections(self, name: str) -> dict[str, Any]:
        """The modules of a LoRA, by the path of the linear module in the model."""
        prefix = self.adapters.sites.prefix
        return {prefix + key: module for key, module in self.adapters.modules_of(name).items()}

    def active(self, composition: gw.Composition) -> Any:
        """The model with a composition active; the pool of a fusion is added with it."""
        if isinstance(composition, gw.Fuse) and composition.name not in self.adapters.fusions:
            self.adapters.add_fusion(composition)
        self.adapters.active = composition
        return self.model

    def alone(self, name: str) -> Any:
        """The model with one adapter active, only while it is called."""
        return functools.partial(self._using, name)

    def mixed(self, names: Sequence[str]) -> Any:
        """The model with an adapter a row, only while it is called: planning is part of the call."""
        return functools.partial(self._using, gw.MixedBatch(names))

    def _using(self, composition: gw.Composition, **inputs: Any) -> Any:
        with self.adapters.using(composition):
            return self.model(**inputs)

    def trained(self, what: Any = None) -> Any:
        """The model while its first adapter is trained, or a fusion."""
        self.adapters.train_only(self.names[0] if what is None else what)
        return self.model


class Peft:
    """A copy of a model with the same LoRAs in layers of peft.

    Args:
        base: The model.
        ours: Whose weights are taken.
        targets: The names of the projections.
    """

    def __init__(self, base: nn.Module, ours: Ours, targets: Sequence[str]) -> None:
        logging.disable(logging.WARNING)
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(targets))
        self.names = ours.names
        self.model: Any = peft.get_peft_model(shared(base), config, adapter_name=self.names[0])
        for name in self.names[1:]:
            self.model.add_adapter(name, config)
        for name in self.names:
            for path, module in ours.projections(name).items():
                layer: Any = self.model.base_model.model.get_submodule(path)
                layer.lora_A[name].weight.data.copy_(module.down)
                layer.lora_B[name].weight.data.copy_(module.up)
        self.model.eval()

    def one(self) -> Any:
        """The model with its first LoRA active, without the wrapper around it."""
        self.model.set_adapter(self.names[0])
        self.model.requires_grad_(False)
        return self.model.base_model.model

    def weighted(self) -> Any:
        """The model with the average of all its LoRAs, which peft makes one LoRA of, of the sum of their ranks."""
        count = len(self.names)
        self.model.add_weighted_adapter(self.names, [1 / count] * count, "mean", combination_type="cat")
        self.model.set_adapter("mean")
        self.model.requires_grad_(False)
        return self.model.base_model.model.eval()

    def mixed(self, rows: int) -> Any:
        """The model with one LoRA a row, which only the wrapper takes."""

        def run(**inputs: Any) -> Any:
            return self.model(**inputs, adapter_names=[self.names[n % len(self.names)] for n in range(rows)])

        return run

    def trained(self) -> Any:
        """The model while its first LoRA is trained, without the wrapper around it."""
        return self.model.base_model.model


class Hub:
    """A copy of a model with the same adapters in AdapterHub's library.

    Args:
        base: The model.
        ours: Whose weights are taken, those of its fusions too.
    """

    def __init__(self, base: nn.Module, ours: Ours) -> None:
        import adapters

        logging.disable(logging.WARNING)
        self.model, self.names = shared(base), ours.names
        adapters.init(self.model)
        with tempfile.TemporaryDirectory() as folder:
            for name in (*self.names, *ours.adapters.fusions):
                at = str(ours.adapters.save(name, Path(folder, name), format="adapterhub"))
                (self.model.load_adapter if name in self.names else self.model.load_adapter_fusion)(at)
        self.model.to(next(base.parameters()).device).eval()

    def active(self, block: str, **options: Any) -> Any:
        """The model with all its adapters in a block of that library active."""
        import adapters.composition

        self.model.set_active_adapters(getattr(adapters.composition, block)(*self.names, **options))
        return self.model

    def trained(self) -> Any:
        """The model while the fusion of all its adapters is trained."""
        import adapters.composition

        self.model.train_adapter_fusion(adapters.composition.Fuse(*self.names, name="fused"))
        return self.model.eval()


def lora(targets: Sequence[str]) -> gw.AdapterConfig:
    """Our LoRA."""
    return gw.LoRA(rank=RANK, alpha=ALPHA, targets=tuple(targets))


def with_loras(base: nn.Module, count: int, targets: tuple[str, ...]) -> tuple[Ours, Peft]:
    """Copies of a model with the same LoRAs, ours and peft's."""
    ours = Ours(base, [lora(targets)] * count)
    return ours, Peft(base, ours, targets)


def agree(what: str, one: Tensor, other: Tensor) -> None:
    """Stop where two results differ by more than rounding.

    Raises:
        SystemExit: If they do.
    """
    other = other.to(one.device)
    worst = float((one - other).abs().max() / other.abs().max())
    if worst > 1e-4:
        raise SystemExit(f"{what}: the results differ by {worst:.1e} of the largest value; nothing is timed")


@torch.no_grad()
def _draw(modules: Any, seed: int) -> None:
    """Values for the weights that start at zero."""
    generator = torch.Generator().manual_seed(seed)
    for module in modules:
        module.up.normal_(std=0.02, generator=generator)


def plain(base: nn.Module, ours: Ours, weights: Mapping[str, float]) -> Any:
    """The model with LoRAs multiplied into its weights, as the weights say: ``W + Σ w_n · (α / r) B_n A_n``."""
    model = shared(base)
    for name, weight in weights.items():
        for path, module in ours.projections(name).items():
            layer: Any = model.get_submodule(path)
            delta = weight * ALPHA / RANK * module.up @ module.down
            layer.weight = nn.Parameter((layer.weight + delta).detach(), requires_grad=False)
    return model


def by_outputs(fused: Ours, composition: gw.Fuse, step: Step) -> Tensor:
    """What a step returns with a fusion computed from the whole outputs of its adapters, nothing multiplied out before."""
    adapters: Any = fused.adapters
    for node in adapters.runtime.plan.nodes():
        if isinstance(node, FuseNode):
            node.folded = node.bank = None
            node.others, node.order = node.children, list(range(len(node.children)))
    found = step()
    adapters.active = composition  # made ready anew
    return found  # type: ignore[return-value]  # steps of this benchmark return tensors
