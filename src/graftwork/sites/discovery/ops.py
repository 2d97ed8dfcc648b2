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
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        qualified = func._schema.name if isinstance(func, torch._ops.OpOverload) else func._qualified_op_name
        namespace, _, name = qualified.partition("::")
        if namespace not in ("aten", "prims"):
            return qualified  # an extension's own: a ``view`` of it need not be torch's
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
    squeeze_copy repeat centred
    """
)
# The carrying operations whose result can be the very same numbers in the same places (where the shape is the same).
SAME_CONTENT = _words(
    """
    view reshape contiguous clone detach alias view_as reshape_as _unsafe_view _reshape_alias expand expand_as
    lift_fresh positive data to type type_as float double half bfloat16 _to_copy squeeze unsqueeze flatten unflatten
    """
)
# The carrying operations that give the same numbers, in the same order, another shape.
RESHAPES = _words("view reshape flatten unflatten _unsafe_view _reshape_alias view_as reshape_as")
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
POOLINGS = _words(
    """
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d _adaptive_avg_pool2d max_pool2d_with_indices
    """
)
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
# What torch does not mark as pointwise: activations that an operator of another name computes, ...
_ACTIVATIONS = _words(
    """
    glu hardswish prelu rrelu logsigmoid log_sigmoid_forward hardshrink softshrink tanhshrink softsign relu6 swish
    """
)
# ... and reductions, resampling, layouts.
_WITHOUT_WEIGHTS = (
    _words(
        """
    input const mean sum nansum prod var std var_mean std_mean amax amin max min argmax argmin topk sort argsort
    norm vector_norm linalg_vector_norm matrix_norm normalize cosine_similarity cdist pairwise_distance logsumexp
    log_softmax _log_softmax gumbel_softmax softmin interpolate upsample upsample_bilinear2d upsample_nearest2d
    upsample_bicubic2d repeat_interleave tile index_add scatter_add scatter_reduce segment_reduce index_fill
    masked_scatter index_copy one_hot tril triu diag diagonal diag_embed flip rot90 cumsum cummax cummin diff median
    quantile unique nonzero threshold real imag conj abs complex polar view_as_complex bernoulli rand_like randn_like
    broadcast_to broadcast_tensors meshgrid cartesian_prod block_diag affine_grid mse_loss l1_loss item tolist
    is_floating_point numel dim
    """
    )
    | _ACTIVATIONS
)


def is_weighted(op: str) -> bool:
    """Whether an operation multiplies by weights, for all that is known of it.

    One that is not known to have none is weighted: a kernel of an extension (a product with quantised or packed
    weights, say) may keep its weights where nobody sees them.
    """
    return op in WEIGHTED or is_unknown(op)


@functools.cache
def is_unknown(op: str) -> bool:
    """Whether nothing here or in torch says what an operation does."""
    if op in TRIVIAL or op in _WITHOUT_WEIGHTS or op in NORMS or op in SOFTMAX or op in WEIGHTED:
        return False
    if op in FUSED_ATTENTION or op in SAMPLING or op in POOLINGS or op in POSITION_MIXING:
        return False
    return not _is_pointwise(op)


def _is_pointwise(op: str) -> bool:
    packet = getattr(torch.ops.aten, op, None)
    overloads = [] if packet is None else [getattr(packet, name) for name in packet.overloads()]
    return any(torch.Tag.pointwise in overload.tags for overload in overloads)


@functools.cache
def is_activation(op: str) -> bool:
    """Whether an operation is a non-linearity of single numbers."""
    return op in _ACTIVATIONS or (_is_pointwise(op) and op not in TRIVIAL | SUMS | NORMS)


def is_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalises: a norm class of torch, or one so named that holds vectors only."""
    if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm | torch.nn.modules.batchnorm._NormBase):
        return True
    return "norm" in type(module).__name__.lower() and all(p.dim() <= 1 for p in module.parameters())


def norms_of(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """The norms of activations that another norm can stand in for, with their dotted paths, in order.

    Weight norm and its kin normalise weights, and a gated norm takes a second activation: neither is one.
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
    except ValueError:  # compiled: nothing says what it takes
        return True
    return sum(p.kind not in variadic for p in parameters) <= 1
