"""Keys and values in front of those that an attention computes itself: o = softmax(q [P_k; K]ᵀ · c + [0; mask]) [P_v; V].

They enter where a layer multiplies, whatever module it uses: torch's fused attention, or the product of queries and keys, a
softmax, and the product with the values. So the queries, their positions, a cache and the attention's own mask stay as they are,
and every query sees what is in front.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from graftwork.errors import AttachError, CompositionError

Pair = tuple[Tensor, Tensor]
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_ADDED = (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)
_FILLED = (torch.masked_fill, Tensor.masked_fill, Tensor.masked_fill_)
_CHOSEN = (torch.where, Tensor.where)


class InFront(TorchFunctionMode):
    """While a module runs, gives each of its attentions the next of some keys and values in front."""

    def __init__(self, block: str, fronts: list[Callable[[], Pair]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.block = block  # the module's path, for messages
        # For each attention, in the order in which they run, what makes its keys and values (1 or batch, heads, tokens, size).
        self.fronts = fronts
        self.done = 0  # how many attentions were seen
        self.columns = 0  # the keys of the attention under way, without those in front
        self.weighed = False  # whether its softmax was seen
        self.waiting: Tensor | None = None  # its values in front

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.done < len(self.fronts):
            return self._fused(*args, **kwargs)
        if func in _PRODUCTS and len(args) == 2:
            return self._product(func, *args)
        if self.waiting is not None:
            if func in _SOFTMAX:
                self.weighed = True
            elif func in _ADDED or func in _FILLED or func in _CHOSEN:
                args = self._widened(func, args)
        return func(*args, **kwargs)

    def require_done(self) -> None:
        """Refuse a block whose attentions were not all seen.

        Raises:
            AttachError: Naming it.
        """
        if self.done < len(self.fronts) or self.waiting is not None:
            raise AttachError(
                f"a prefix goes in front of the keys and values of {self.block!r}, whose attention computes in a way that cannot "
                f"be followed ({self.done} of {len(self.fronts)} seen); load the model with attn_implementation='sdpa' or 'eager', "
                "or use LoRA or an adapter there"
            )

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        keys, values = self._next(key)
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=key.device).tril()
        if attn_mask is not None:
            attn_mask = _widen(attn_mask.expand(*attn_mask.shape[:-1], key.shape[-2]), keys.shape[-2], True)
        key, value = torch.cat([keys, key], dim=-2), torch.cat([values, value], dim=-2)
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, **options)

    def _product(self, func: Any, left: Any, right: Any) -> Any:
        if self.waiting is not None:
            values, self.waiting = self.waiting, None
            if not self.weighed or right.dim() != 4 or left.shape[-1] != right.shape[-2] + values.shape[-2]:
                self.require_done()
                raise AttachError(
                    f"the attention of {self.block!r} is of a form that takes no prefix; use LoRA or an adapter there"
                )
            return func(left, torch.cat([values, right], dim=-2))
        activations = isinstance(left, Tensor) and isinstance(right, Tensor) and not isinstance(right, nn.Parameter)
        if self.done == len(self.fronts) or not activations or left.dim() != 4 or right.dim() != 4:
            return func(left, right)
        transposed = right.transpose(-1, -2)
        keys, self.waiting = self._next(transposed)
        self.columns, self.weighed = right.shape[-1], False
        return func(left, torch.cat([keys, transposed], dim=-2).transpose(-1, -2))

    def _next(self, key: Tensor) -> Pair:
        """The next keys and values, for the rows and heads of the attention's own ``(batch, heads, positions, size)``."""
        keys, values = self.fronts[self.done]()
        self.done += 1
        heads = keys.shape[1]
        if key.dim() != 4 or key.shape[-1] != keys.shape[-1] or key.shape[1] % heads:
            raise AttachError(
                f"a prefix of {heads} heads of {keys.shape[-1]} does not fit the keys {tuple(key.shape)} of {self.block!r}; give "
                "PrefixTuningConfig its num_attention_heads and token_dim (heads times size)"
            )
        keys, values = keys.to(key), values.to(key)
        if key.shape[1] > heads:
            keys, values = (t.repeat_interleave(key.shape[1] // heads, dim=1) for t in (keys, values))
        return keys.expand(key.shape[0], -1, -1, -1), values.expand(key.shape[0], -1, -1, -1)

    def _widened(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments with columns for what is in front, where the scores among them have these columns already."""
        assert self.waiting is not None
        many = self.waiting.shape[-2]
        wide = [isinstance(a, Tensor) and a.dim() == 4 and a.shape[-1] == self.columns + many for a in args]
        if not any(wide):
            return args
        # A condition is to choose the scores for the columns in front.
        value = func in _CHOSEN and (wide[0] if func is Tensor.where else len(wide) > 1 and wide[1])
        return tuple(
            _widen(a, many, value) if isinstance(a, Tensor) and a.dim() > 1 and a.shape[-1] == self.columns else a
            for a in args
        )


def _widen(mask: Tensor, many: int, value: bool) -> Tensor:
    """A mask with columns in front: of one truth value, or of zeros to add."""
    columns = mask.new_full((*mask.shape[:-1], many), value if mask.dtype is torch.bool else 0)
    return torch.cat([columns, mask], dim=-1)


class Attending:
    """A module's forward, with keys and values in front of its attentions where an active adapter has them.

    It is the ``forward`` of the module itself, so that hooks and wrappers run around it, and a block's recomputation runs it.
    """

    def __init__(self, module: nn.Module, path: str, number: int, runtime: Any) -> None:
        self.module = module
        self.path = path
        self.number = number  # among these modules of the model
        self.runtime = runtime
        self.inner = module.__dict__.get("forward")  # the forward that was there, None for that of its class
        self.users = 0  # how many adapters have keys and values for it

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._run)

    @property
    def _run(self) -> Callable[..., Any]:
        run: Callable[..., Any] = type(self.module).forward.__get__(self.module) if self.inner is None else self.inner
        return run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        frame = self.runtime.frame
        fronts = None if frame is None or frame.plan.prompt is None else frame.plan.prompt.fronts(frame, self)
        if not fronts:
            return self._run(*args, **kwargs)
        if self.module.training and getattr(self.module, "gradient_checkpointing", False):
            raise CompositionError(
                f"{frame.plan.composition!r} has keys and values in front of the attention of {self.path!r}, which gradient "
                "checkpointing would compute again without; turn that off, or use prompt tuning"
            )
        mode = InFront(self.path, fronts)
        with mode:
            output = self._run(*args, **kwargs)
        mode.require_done()
        return output


def open_blocks(model: nn.Module, paths: list[str], runtime: Any) -> None:
    """Make modules take keys and values in front."""
    for number, path in enumerate(paths):
        module = model.get_submodule(path)
        if not isinstance(module.__dict__.get("forward"), Attending):
            module.__dict__["forward"] = Attending(module, path, number, runtime)
        module.__dict__["forward"].users += 1


def close_blocks(model: nn.Module, paths: list[str]) -> None:
    """Undo `open_blocks` where no other adapter needs it."""
    for path in paths:
        module = model.get_submodule(path)
        attending = module.__dict__.get("forward")
        if isinstance(attending, Attending):
            attending.users -= 1
            if not attending.users:
                del module.__dict__["forward"]
                if attending.inner is not None:
                    module.__dict__["forward"] = attending.inner
