"""What torch's operations mean for a residual stream, by their plain names.

Recording gives one name to all spellings of an operation (``x + y``, ``x.add_(y)``, ``torch.add``, ``aten::add``),
so the tables below stay short.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import resolve_name

_REFLECTED = {
    **{f"i{op}": op for op in ("add", "sub", "mul", "truediv", "matmul")},
    **{f"r{op}": op for op in ("add", "mul", "matmul")},  # not the others: their operands are in the other order
    "idiv": "truediv",
}
_SYNONYMS = {"div": "truediv", "divide": "truediv", "multiply": "mul", "subtract": "sub"}


@functools.cache
def operation_name(func: Callable[..., Any]) -> str:
    """The plain name of a torch function, method, operator or property, the same for all its spellings."""
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        qualified = func._schema.name if isinstance(func, torch._ops.OpOverload) else func._qualified_op_name
        namespace, _, name = qualified.partition("::")
        if namespace not in ("aten", "prims"):
            return qualified  # of an extension: its ``view`` need not be torch's
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


# Results that take a shape or a type from their input, never its content.
CONTENT_FREE = frozenset(
    """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
    new_empty new_tensor normal zeros ones full empty arange shape size
    """.split()
)

# Operations that keep their first argument in another layout, type or selection; dropout does nothing in eval mode.
CARRYING = frozenset(
    """
    view reshape permute transpose contiguous clone to type type_as float half bfloat16 double unsqueeze squeeze
    flatten unflatten expand expand_as getitem narrow pad roll neg detach alias swapaxes swapdims movedim T mT H t
    data requires_grad view_as reshape_as _unsafe_view as_strided slice select constant_pad_nd _to_copy
    native_dropout dropout dropout1d dropout2d feature_dropout alpha_dropout lift_fresh clamp nan_to_num masked_fill
    where setitem index_select unfold fold im2col col2im select_scatter slice_scatter copy pixel_shuffle index
    index_put tensor_split chunk split unbind split_with_sizes _reshape_alias _unsafe_index resolve_conj
    refine_names rename positive pin_memory cpu cuda hstack masked_select view_as_real view_as_complex gather
    take_along_dim scatter atleast_2d atleast_3d squeeze_copy repeat centred
    """.split()
)
# The carrying operations whose result can be the very same numbers in the same places (where the shape is the same).
SAME_CONTENT = frozenset(
    """
    view reshape contiguous clone detach alias view_as reshape_as _unsafe_view _reshape_alias expand expand_as
    lift_fresh positive data to type type_as float double half bfloat16 _to_copy squeeze unsqueeze flatten unflatten
    """.split()
)
# The carrying operations that give the same numbers, in the same order, another shape.
RESHAPES = frozenset("view reshape flatten unflatten _unsafe_view _reshape_alias view_as reshape_as".split())
# The carrying operations that put the dimensions in another order.
MOVES = frozenset("permute transpose movedim swapaxes swapdims T mT H t".split())
# These carry only their first tensor argument: the others give a shape or a type.
FIRST_ARGUMENT_ONLY = frozenset(("expand_as", "view_as", "reshape_as", "type_as"))
SCALING = frozenset(("mul", "truediv"))
SUMS = frozenset(("add", "sub", "addcmul", "lerp"))
JOINS = frozenset(("cat", "stack", "concat", "concatenate", "vstack"))
# Operations that do no work of their own on a path: without them rotary embeddings would look like branches.
TRIVIAL = CONTENT_FREE | CARRYING | SCALING | JOINS | {"add", "sub", "rsub", "embedding"}

FUSED_ATTENTION = frozenset(
    """
    scaled_dot_product_attention multi_head_attention_forward _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _scaled_dot_product_attention_math
    flex_attention _native_multi_head_attention _scaled_dot_product_fused_attention_overrideable
    """.split()
)
SOFTMAX = frozenset(("softmax", "_softmax", "_safe_softmax"))
PRODUCTS = frozenset(("matmul", "bmm", "einsum", "baddbmm", "mm", "dot", "tensordot", "inner"))
CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d"))
SAMPLING = frozenset(("grid_sample", "grid_sampler", "grid_sampler_2d"))
POOLINGS = frozenset(
    """
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d _adaptive_avg_pool2d max_pool2d_with_indices
    """.split()
)
# Operations that mix positions without weights of their own. Integer cumsum counts positions and mixes nothing.
POSITION_MIXING = frozenset(
    """
    fft fftn rfft rfft2 irfft irfft2 fft2 fft_fft fft_fft2 fft_fftn fft_rfft fft_irfft fft_rfft2 _fft_c2c _fft_r2c
    cumsum cumprod logcumsumexp
    """.split()
)
WEIGHTED = PRODUCTS | CONVOLUTIONS | {"linear", "addmm", "embedding_bag", "addbmm"}
NORMS = frozenset(
    """
    layer_norm rms_norm group_norm batch_norm instance_norm native_layer_norm native_group_norm native_batch_norm
    _fused_rms_norm
    """.split()
)
# What torch does not mark as pointwise: activations that an operator of another name computes, ...
_ACTIVATIONS = frozenset(
    """
    glu hardswish prelu rrelu logsigmoid log_sigmoid_forward hardshrink softshrink tanhshrink softsign relu6 swish
    """.split()
)
# ... and reductions, resampling, layouts.
_WITHOUT_WEIGHTS = frozenset(
    """
    input const mean sum nansum prod var std var_mean std_mean amax amin max min argmax argmin topk sort argsort
    norm vector_norm linalg_vector_norm matrix_norm normalize cosine_similarity cdist pairwise_distance logsumexp
    log_softmax _log_softmax gumbel_softmax softmin interpolate upsample upsample_bilinear2d upsample_nearest2d
    upsample_bicubic2d repeat_interleave tile index_add scatter_add scatter_reduce segment_reduce index_fill
    masked_scatter index_copy one_hot tril triu diag diagonal diag_embed flip rot90 cumsum cummax cummin diff median
    quantile unique nonzero threshold real imag conj abs complex polar view_as_complex bernoulli rand_like
    randn_like broadcast_to broadcast_tensors meshgrid cartesian_prod block_diag affine_grid mse_loss l1_loss item
    tolist is_floating_point numel dim
    """.split()
)
_KNOWN = TRIVIAL.union(
    _WITHOUT_WEIGHTS, _ACTIVATIONS, NORMS, SOFTMAX, WEIGHTED, FUSED_ATTENTION, SAMPLING, POOLINGS, POSITION_MIXING
)


def is_weighted(op: str) -> bool:
    """Whether an operation multiplies by weights, or may do so.

    An unknown operation may: a kernel of an extension (such as a product with quantised or packed weights) can keep its
    weights where the record does not show them.
    """
    return op in WEIGHTED or is_unknown(op)


@functools.cache
def is_unknown(op: str) -> bool:
    """Whether neither the tables here nor torch's tags say what an operation does."""
    return op not in _KNOWN and not _is_pointwise(op)


def _is_pointwise(op: str) -> bool:
    packet = getattr(torch.ops.aten, op, None)
    return packet is not None and any(torch.Tag.pointwise in getattr(packet, name).tags for name in packet.overloads())


@functools.cache
def is_activation(op: str) -> bool:
    """Whether an operation is an elementwise non-linearity."""
    return op in _ACTIVATIONS or (_is_pointwise(op) and op not in TRIVIAL | SUMS | NORMS)


def is_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalises: a norm class of torch, or a class with "norm" in its name and only vectors as weights."""
    if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm | torch.nn.modules.batchnorm._NormBase):
        return True
    return "norm" in type(module).__name__.lower() and all(p.dim() <= 1 for p in module.parameters())


def norms_of(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The norms of activations that another norm can replace, with their dotted paths, in order.

    Left out are modules that normalise weights (weight norm) and gated norms, which take a second activation.
    """
    lists = (m for m in model.modules() if isinstance(m, torch.nn.utils.parametrize.ParametrizationList))
    of_weights = {id(module) for found in lists for module in found.modules()}
    for path, module in model.named_modules():
        if id(module) not in of_weights and is_norm(module) and _takes_one_tensor(module):
            yield path, module


def _takes_one_tensor(module: torch.nn.Module) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except ValueError:  # a compiled forward has no signature
        return True
    return sum(p.kind not in variadic for p in parameters) <= 1
