"""What the nine checks share: attaching to a model of the zoo, making adapters matter, and looking at its streams."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.sites import Site, Tap
from tests.zoo.models import ZooModel, build_or_skip, clone_inputs, main_output

BRANCHES = ("attention", "cross_attention", "mixer", "feed_forward")


def attached(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[ZooModel, gw.Adapters]:
    """A model of the zoo with its handle."""
    zoo = build_or_skip(name, dtype, seed)
    return zoo, gw.attach(zoo.model, example_inputs=zoo.inputs)


def branch_sites(adapters: gw.Adapters) -> list[Site]:
    """The sites at which a branch is added, in order of execution."""
    return [site for site in adapters.sites if site.kind in BRANCHES]


def randomize(adapters: gw.Adapters, name: str, seed: int, std: float = 0.2) -> None:
    """Random weights for an adapter, so that what it adds is as large as the branches."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in adapters.modules_of(name).values():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def run(zoo: ZooModel) -> dict[str, Tensor]:
    """Every float tensor that one forward pass returns, without gradients."""
    with torch.no_grad():
        return dict(tensors(zoo.model(**clone_inputs(zoo.inputs))))


def run_as_frozen(zoo: ZooModel) -> dict[str, Tensor]:
    """The same with frozen weights and without PyTorch's fused encoder layer, which hooks switch off.

    Both pick other kernels, which round differently.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in zoo.model.parameters()]
    zoo.model.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return run(zoo)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def tensors(outputs: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The float tensors in an output, by their path; caches left out."""
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield path, outputs
    elif isinstance(outputs, Mapping):
        for key, value in outputs.items():
            yield from tensors(value, f"{path}.{key}")
    elif isinstance(outputs, (list, tuple)):
        for key, value in enumerate(outputs):
            yield from tensors(value, f"{path}.{key}")


def flat(inputs: Any) -> list[Tensor]:
    """Every tensor in nested inputs."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return [tensor for value in inputs.values() for tensor in flat(value)] if isinstance(inputs, Mapping) else []


def gradients(zoo: ZooModel, adapters: gw.Adapters) -> dict[str, Tensor]:
    """Gradients of the active adapter's weights in train mode, with the same dropout every time."""
    modules = adapters.modules_of(str(adapters.active))
    parameters = {f"{key}.{name}": p for key, module in modules.items() for name, p in module.named_parameters()}
    zoo.model.zero_grad(set_to_none=True)
    zoo.model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = main_output(zoo.model(**clone_inputs(zoo.inputs)))
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        (output * weights.to(output.dtype)).sum().backward()
    zoo.model.eval()
    missing = [key for key, parameter in parameters.items() if parameter.grad is None]
    assert not missing, f"no gradient for {missing}"
    return {key: parameter.grad.clone() for key, parameter in parameters.items() if parameter.grad is not None}


def enable_checkpointing(model: Any, reentrant: bool) -> None:
    """Gradient checkpointing, under the name that the installed transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})


@contextlib.contextmanager
def counting(model: nn.Module, path: str) -> Iterator[collections.Counter[str]]:
    """Counts the calls of a module as they begin: computing again stops as soon as everything needed is there."""
    calls: collections.Counter[str] = collections.Counter()
    handle = model.get_submodule(path).register_forward_pre_hook(lambda *_: calls.update([path]))
    try:
        yield calls
    finally:
        handle.remove()


def rows_of(outputs: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """The outputs that have one entry a row (CLIP's similarities mix rows)."""
    return {path: value for path, value in outputs.items() if len(value) == rows and "logits_per" not in path}


@contextlib.contextmanager
def watching(model: nn.Module, taps: Mapping[str, Tap]) -> Iterator[dict[str, Tensor]]:
    """Collects what passes the taps during the forward passes inside the ``with``; a hook of the test's own."""
    seen: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    handles = []
    for name, tap in taps.items():
        handles.append(_watch(model.get_submodule(tap.module), name, tap, seen, calls))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _watch(module: nn.Module, name: str, tap: Tap, seen: dict[str, Tensor], calls: dict[str, int]) -> Any:
    def is_now() -> bool:
        calls[name] = calls.get(name, -1) + 1
        return calls[name] == tap.call

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_now():
            seen[name] = (args[tap.slot] if isinstance(tap.slot, int) else kwargs[tap.slot]).detach().clone()

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if is_now():
            seen[name] = (output if tap.slot is None else output[tap.slot]).detach().clone()

    if tap.end == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
    return module.register_forward_hook(after, prepend=True)  # in front of graftwork's: the branch as the model made it


def sum_tap(adapters: gw.Adapters, site: Site, norm: str) -> Tap:
    """Where ``s + scale · y`` can be seen: in front of the post-norm, at the next branch, or behind the layer."""
    if site.norm is not None:
        return Tap(site.norm, "input", 0, site.output.call)
    if norm != "parallel":
        layer = [other for other in branch_sites(adapters) if (other.stack, other.layer) == (site.stack, site.layer)]
        later = layer[layer.index(site) + 1 :]
        if later:
            assert later[0].residual is not None, f"{later[0].key} has no residual"
            return later[0].residual
    whole = next(
        other
        for other in adapters.sites
        if other.kind == "layer" and (other.stack, other.layer) == (site.stack, site.layer)
    )
    return whole.output


def scale_of(model: nn.Module, site: Site) -> Tensor | float:
    """The model's own factor on the branch."""
    if isinstance(site.scale, str):
        owner, _, attribute = site.scale.rpartition(".")
        return getattr(model.get_submodule(owner), attribute).detach()
    return 1.0 if site.scale is None else site.scale


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What `detach` has to restore: names of the state, hooks of every module, flags, modes, children."""

    state: tuple[str, ...]
    hooks: tuple[int, ...]
    flags: tuple[bool, ...]
    modes: tuple[bool, ...]
    forwards: tuple[bool, ...]
    classes: tuple[type, ...]

    @classmethod
    def of(cls, model: nn.Module) -> Snapshot:
        """Takes it."""
        modules = list(model.modules())
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        return cls(
            state=tuple(model.state_dict()),
            hooks=tuple(sum(len(getattr(module, kind)) for kind in kinds) for module in modules),
            flags=tuple(parameter.requires_grad for parameter in model.parameters()),
            modes=tuple(module.training for module in modules),
            forwards=tuple("forward" in vars(module) for module in modules),
            classes=tuple(type(module) for module in modules),
        )
