"""What torch's operations mean for a residual stream, by their plain names.

Recording gives one name to all spellings of an operation (``x + y``, ``x.add_(y)``, ``torch.add``, ``aten::add``),
so the tables below stay short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import resolve_name

_REFLECTED = {
    "iadd": "add",
    "radd": "add",
    "isub": "sub",
    "imul": "mul",
    "rmul": "mul",
    "itruediv": "truediv",
    "idiv": "truediv",
    "imatmul": "matmul",
    "rmatmul": "matmul",
}
_SYNONYMS = {"div": "truediv", "divide": "truediv", "multiply": "mul", "subtract": "sub"}
_names: dict[Any, str] = {}


def operation_name(func: Callable[..., Any]) -> str:
    """The plain name of a torch function, method, operator or property, the same for all its spellings."""
    name = _names.get(func)
    if name is None:
        name = _names[func] = _operation_name(func)
    return name


def _operation_name(func: Callable[..., Any]) -> str:
    if isinstance(func, torch._ops.OpOverload):
        name = func._schema.name.split("::")[1]
    else:
        try:
            name = resolve_name(func) or getattr(func, "__name__", str(func))
        except Exception:  # resolve_name imports what it guesses, and may guess wrong
            name = getattr(func, "__name__", str(func))
        parts = name.split(".")
        name = parts[-2] if parts[-1] == "__get__" and len(parts) > 1 else parts[-1]
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        name = _REFLECTED.get(name, name)
    name = name.rstrip("_")
    return _SYNONYMS.get(name, name)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Results that take a shape or a type from their input, never its content.
CONTENT_FREE = _words(
    """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
    new_empty new_tensor normal zeros ones full empty arange shape size
    """
)

# Operations that keep their first argument in another layout, type or selection; dropout does nothing in eval mode.
CARRYING = _words(
    """
    view reshape permute transpose contiguous clone to type type_as float half bfloat16 double unsqueeze
    squeeze flatten unflatten expand expand_as getitem narrow pad roll neg detach alias swapaxes swapdims
    movedim T mT H t data requires_grad view_as reshape_as _unsafe_view as_strided slice select
    constant_pad_nd _to_copy native_dropout dropout dropout1d dropout2d feature_dropout alpha_dropout
    lift_fresh clamp nan_to_num masked_fill where setitem index_select unfold fold im2col col2im
    select_scatter slice_scatter copy pixel_shuffle index index_put tensor_split chunk split unbind
    split_with_sizes _reshape_alias _unsafe_index resolve_conj refine_names rename positive pin_memory cpu
    cuda hstack masked_select view_as_real view_as_complex gather take_along_dim scatter atleast_2d atleast_3d
    squeeze_copy repeat
    """
)
# The carrying operations whose result can be the very same numbers in the same places (where the shape is the same).
SAME_CONTENT = _words(
    """
    view reshape contiguous clone detach alias view_as reshape_as _unsafe_view _reshape_alias expand expand_as
    lift_fresh positive data to type type_as float double half bfloat16 _to_copy squeeze unsqueeze flatten unflatten
    """
)
# The carrying operations that put the dimensions in another order.
MOVES = _words("permute transpose movedim swapaxes swapdims T mT H t")
# These carry only their first tensor argument: the others give a shape or a type.
FIRST_ARGUMENT_ONLY = frozenset(("expand_as", "view_as", "reshape_as", "type_as"))
SCALING = frozenset(("mul", "truediv"))
SUMS = frozenset(("add", "sub", "addcmul", "lerp"))
JOINS = frozenset(("cat", "stack", "concat", "concatenate", "vstack"))
# Operations that do no work of their own on a path: without them rotary embeddings would look like branches.
TRIVIAL = CONTENT_FREE | CARRYING | SCALING | JOINS | {"add", "sub", "rsub", "embedding"}

FUSED_ATTENTION = _words(
    """
    scaled_dot_product_attention multi_head_attention_forward _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_attention_math flex_attention _native_multi_head_attention
    _scaled_dot_product_fused_attention_overrideable
    """
)
SOFTMAX = frozenset(("softmax", "_softmax", "_safe_softmax"))
PRODUCTS = frozenset(("matmul", "bmm", "einsum", "baddbmm", "mm", "dot", "tensordot", "inner"))
CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d"))
SAMPLING = frozenset(("grid_sample", "grid_sampler", "grid_sampler_2d"))
POOLINGS = _words("avg_pool1d avg_pool2d max_pool1d max_pool2d adaptive_avg_pool1d adaptive_avg_pool2d")
# Operations that mix positions without weights of their own. Integer cumsum counts positions and mixes nothing.
POSITION_MIXING = _words(
    """
    fft fftn rfft rfft2 irfft irfft2 fft2 fft_fft fft_fft2 fft_fftn fft_rfft fft_irfft fft_rfft2 _fft_c2c
    _fft_r2c cumsum cumprod logcumsumexp
    """
)
WEIGHTED = PRODUCTS | CONVOLUTIONS | {"linear", "addmm", "embedding_bag", "addbmm"}
NORMS = _words(
    """
    layer_norm rms_norm group_norm batch_norm instance_norm native_layer_norm native_group_norm
    native_batch_norm _fused_rms_norm
    """
)


def is_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalises: a norm class of torch, or one so named that holds vectors only."""
    if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm | torch.nn.modules.batchnorm._NormBase):
        return True
    return "norm" in type(module).__name__.lower() and all(p.dim() <= 1 for p in module.parameters())
