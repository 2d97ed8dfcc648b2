"""A copy of a model to trace, without its weights, and one recorded run of it.

The user's own object is never run: the copy's parameters are fake tensors (shapes without numbers), or, where a fake
run is impossible, the parameters of the model itself in a copied structure. A model on the meta device has no numbers to
fall back on. But most control flow that depends on numbers (is there padding, where does the sentence end) depends on those
of the inputs, and these can be known while the weights stay fake.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from graftwork.sites.discovery.record import Record, written_by
from graftwork.sites.discovery.values import tensors_in

# Hooks of these packages do part of the computation (weight norm, collected hidden states). Anyone else's hooks
# belong to the user's real runs and must not see a traced one.
_HOOKS_KEPT = ("torch.", "transformers.", "peft.")


def trace(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    fake: bool = True,
    known_inputs: bool = False,
    entry: str = "",
    record: Record | None = None,
    prepare: Callable[[torch.nn.Module], None] | None = None,
    caches: list[Any] | None = None,
) -> Record:
    """Record one forward pass of a copy of the model.

    Args:
        model: Any module; it stays as it is.
        args: Positional arguments of the forward pass.
        kwargs: Keyword arguments of the forward pass.
        fake: Run on fake tensors; else on the model's own weights, on their device.
        known_inputs: In a fake run, keep the numbers of the inputs, and so of everything that depends on no weight.
        entry: Dotted path of the sub-model to run; the model itself by default.
        record: An empty record to fill.
        prepare: Called with the copy before it is watched.
        caches: The cached functions of the process, as `clear_fake_caches` takes them.

    Returns:
        The filled record.
    """
    record = record if record is not None else Record()
    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
    structure = _copy_structure(model, mode)
    _make_plain(structure)
    if prepare is not None:
        prepare(structure)
    args, kwargs = _place((args, dict(kwargs)), mode, _device_of(model), known=known_inputs)
    leaves = tree_flatten_with_path((args, kwargs))[0]
    record.name_inputs((keystr(path[1:]), leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor))
    handles = record.watch(structure)
    outer, inner = record.modes()
    try:
        with _numbers(mode, known_inputs), torch.no_grad(), _eager(), outer, inner:
            structure.get_submodule(entry)(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        if fake:
            clear_fake_caches(caches)
    return record


@contextlib.contextmanager
def _numbers(mode: FakeTensorMode | None, known_inputs: bool) -> Iterator[None]:
    """The context of a run that decides which tensors have numbers."""
    if mode is not None and known_inputs:
        # Outside its mode a fake tensor still makes the results of its operations fake; everything else is real.
        # The caller may have set a default device, such as the one that the model was built on.
        with torch.device("cpu"), _NoLostWrites():
            yield
    else:
        with mode or contextlib.nullcontext():
            yield


class _NoLostWrites(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuse to write a fake tensor into a real one: the real one would keep its old numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        partly_fake = any(isinstance(tensor, FakeTensor) for tensor in (*tensors_in(args), *tensors_in(kwargs)))
        if partly_fake and not all(isinstance(tensor, FakeTensor) for tensor in written_by(func, args, kwargs)):
            raise RuntimeError(f"{func} writes what depends on weights into a tensor of known numbers")
        return func(*args, **kwargs)


def _device_of(model: torch.nn.Module) -> torch.device:
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None or first.device.type == "meta" else first.device


def _copy_structure(model: torch.nn.Module, mode: FakeTensorMode | None) -> torch.nn.Module:
    """The model with its modules copied and its tensors fake (or, without a mode, its own)."""
    memo: dict[int, Any] = {}
    buffers = {id(buffer) for buffer in model.buffers()}
    with mode or contextlib.nullcontext(), torch.no_grad():
        for tensor in _own_tensors(model):
            if id(tensor) in memo:
                continue
            if mode is None:
                # buffers can be written by a run even in eval mode (caches, step counts)
                memo[id(tensor)] = tensor.detach().clone() if id(tensor) in buffers else _shared(tensor)
                continue
            like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            memo[id(tensor)] = torch.nn.Parameter(like, requires_grad=False) if is_parameter else like
    structure = copy.deepcopy(model, memo)
    for tensor in model.parameters() if mode is None else ():
        twin = memo[id(tensor)]
        if twin is not tensor:
            held = vars(tensor).items()
            vars(twin).update({k: v if torch.is_tensor(v) else memo.get(id(v)) or copy.copy(v) for k, v in held})
    return structure


def _shared(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor itself, or a copy of a parameter that has attributes of its own, with the same numbers.

    A run may move such attributes: bitsandbytes passes those of a quantised parameter to the module that runs first, and
    packs the parameter again.
    """
    if not isinstance(tensor, torch.nn.Parameter) or not vars(tensor) or is_traceable_wrapper_subclass(tensor):
        return tensor
    return torch.Tensor._make_subclass(type(tensor), tensor.detach(), False)


def _own_tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        # plain attributes: old-style weight norm leaves a tensor there that cannot be copied
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))


def _make_plain(structure: torch.nn.Module) -> None:
    """Make a run of the copy deterministic, in Python, and free of data-dependent shortcuts."""
    structure.eval()
    for module in structure.modules():
        if "_hf_hook" in vars(module) and "_old_forward" in vars(module):  # accelerate's device moves
            module.forward = vars(module)["_old_forward"]
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                function = hook.func if isinstance(hook, functools.partial) else hook
                origin = getattr(function, "__module__", None) or type(function).__module__
                if not f"{origin}.".startswith(_HOOKS_KEPT):
                    del hooks[key]
        if getattr(module, "chunk_size_feed_forward", 0):
            module.chunk_size_feed_forward = 0  # type: ignore[assignment]  # running in pieces changes no result
        config: Any = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) not in (None, "eager", "sdpa"):
            config._attn_implementation = "sdpa"  # kernels for graphics cards only
        if getattr(config, "use_cache", None) is True:
            config.use_cache = False
    set_experts = getattr(structure, "set_experts_implementation", None)
    if set_experts is not None:
        with contextlib.suppress(Exception):  # models without experts refuse; the loop over experts needs real numbers
            set_experts("batched_mm")


def _place(inputs: Any, mode: FakeTensorMode | None, device: torch.device, *, known: bool) -> Any:
    def place(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if mode is None:
            return leaf.detach().clone().to(device)
        if known and leaf.device.type != "meta":
            return leaf.detach().clone().cpu()
        with mode:
            return torch.empty(leaf.shape, dtype=leaf.dtype, device="cpu")

    return tree_map(place, inputs)


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    """Run without fused fast paths and compiled helpers, which would hide the operations inside them."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    set_stance = getattr(torch.compiler, "set_stance", None)
    try:
        with set_stance("force_eager") if set_stance is not None else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def clear_fake_caches(caches: list[Any] | None = None) -> int:
    """Clear every `functools.lru_cache` that holds a fake tensor; returns how many.

    Cached helpers (rotary tables, patch grids) would otherwise return it in the user's next real run.

    Args:
        caches: The cached functions of the process, filled if it is empty, for the next run of the same model: to find
            them takes time in proportion to all objects of the process.
    """
    known = [] if caches is None else caches
    if not known:
        known += [found for found in gc.get_objects() if type(found) is functools._lru_cache_wrapper]
    holding = [cache for cache in known if _holds_fake(cache)]
    for cache in holding:
        cache.cache_clear()
    return len(holding)


def _holds_fake(cache: Any) -> bool:
    waiting, seen = [(cache, 0)], set()
    while waiting:
        thing, depth = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, FakeTensor):
            return True
        in_cache = depth == 0 or type(thing) in (dict, list, tuple) or type(thing).__name__ == "_lru_list_elem"
        if depth < 5 and in_cache:
            waiting += [(referent, depth + 1) for referent in gc.get_referents(thing)]
    return False
