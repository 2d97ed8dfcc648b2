"""Blocks below the first adapter are computed once for rows that have the same inputs.

The rows of a `Replicate` are copies, and a batch by rows may hold one text several times, once for each task. Until something
is added they stay equal. The model itself is called with all rows, so that its own code sees nothing of this: a block of the
trunk is given the different rows alone, and what it returns is repeated. Anything that is not certainly the same for equal rows
leaves the block as it is: training (dropout), a key/value cache, attentions or hidden states that were asked for, tensors that
differ where the texts do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.compose.rows import Rows, take
from graftwork.forward.call_inputs import Call
from graftwork.forward.plan import Plan
from graftwork.forward.ports import TRUNK, Ports, TrunkBlock
from graftwork.forward.work import work_of
from graftwork.sites import SiteMap


@dataclasses.dataclass(eq=False)
class Repeats:
    """The rows of one forward pass that have the same inputs.

    Attributes:
        rows: The number of rows.
        first: Of each different input the first row.
        back: For each row the place of its input among those.
        equal: Tensors that are known to be equal where the inputs are, by identity: those of the last block that ran.
        whole: What a block that runs was called with.
    """

    rows: int
    first: Rows
    back: Rows
    equal: dict[int, Tensor] = dataclasses.field(default_factory=dict)
    whole: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


def trunk_of(plan: Plan, sites: SiteMap, ports: Iterable[Ports]) -> frozenset[str]:
    """Return the paths of the first blocks, in order of execution, in and before which nothing has work under a plan.

    Args:
        plan: The plan.
        sites: The sites of the model.
        ports: Those of all modules that have some.
    """
    if not plan.by_rows or plan.injected or plan.prompt is not None:
        return frozenset()
    works = {one: work_of(one, plan) for one in ports if one.head is None}
    busy = [one.block for one, work in works.items() if work is not None and work.acts]
    first = min(busy, default=0)  # -1 where it may be the embeddings, before all blocks
    return frozenset(sites.blocks[: max(first, 0)])


def repeats_in(plan: Plan, call: Call, model: nn.Module) -> Repeats | None:
    """Return which rows of a call have the same inputs, ``None`` where none have or the trunk cannot be shared."""
    rows = call.rows
    if not plan.trunk or not rows or call.beams or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]  # torch documents it and does not export it
        return None
    if _shows_blocks(call, getattr(model, "config", None)):
        return None
    if plan.replicate is not None:
        once = rows // len(plan.replicate.children)
        return Repeats(rows, tuple(range(once)), tuple(range(once)) * (rows // once)) if once else None
    tokens = call.token_ids
    if tokens is None:
        return None
    places: dict[tuple[int, ...], int] = {}
    back = tuple(places.setdefault(tuple(row), len(places)) for row in tokens.tolist())
    if len(places) == rows:
        return None
    return Repeats(rows, tuple(back.index(place) for place in range(len(places))), back)


def _shows_blocks(call: Call, config: Any) -> bool:
    """Whether the model is asked for what its blocks make inside, which it may take from them where we cannot repeat it."""
    asked = ("output_attentions", "output_hidden_states", "output_router_logits")
    return any(call.named.get(name) or getattr(config, name, False) for name in asked)


def narrow(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook of a block: of rows with the same inputs only the first."""
    block: TrunkBlock = module.__dict__[TRUNK]
    frame = block.runtime.frame
    repeats: Repeats | None = None if frame is None else frame.repeats
    if repeats is None or module.training or block.refuses or block.path not in frame.plan.trunk:  # type: ignore[union-attr]
        return None
    known, repeats.equal = repeats.equal, {}
    try:
        changed = tuple(_few(repeats, known, a) for a in args), {k: _few(repeats, known, v) for k, v in kwargs.items()}
    except _NotSharedError:
        return None
    repeats.whole = args, kwargs
    return changed


def widen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook of a block: what it returned for every row."""
    block: TrunkBlock = module.__dict__[TRUNK]
    frame = block.runtime.frame
    repeats: Repeats | None = None if frame is None else frame.repeats
    if repeats is None or not any(repeats.whole):
        return None
    (args, kwargs), repeats.whole = repeats.whole, ((), {})
    try:
        return _all(repeats, output)
    except _NotSharedError:
        block.refuses = True  # what it returns has not one entry a row
        return module.forward(*args, **kwargs)


class _NotSharedError(Exception):
    """A tensor is not the same for rows with the same inputs, or what a value is cannot be known."""


def _few(repeats: Repeats, known: dict[int, Tensor], value: Any) -> Any:
    """A value with the first row of each input alone."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value) in (tuple, list):
        return type(value)(_few(repeats, known, part) for part in value)
    if type(value) is dict:
        return {key: _few(repeats, known, part) for key, part in value.items()}
    if not isinstance(value, Tensor):
        raise _NotSharedError
    if not value.dim() or value.shape[0] % repeats.rows or not value.shape[0]:
        return value  # it has no rows
    few = take(value, repeats.first, repeats.rows)
    if id(value) not in known and not torch.equal(take(few, repeats.back, len(repeats.first)), value):
        raise _NotSharedError
    repeats.equal[id(value)] = value
    return few


def _all(repeats: Repeats, value: Any) -> Any:
    """A value with all rows again."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value) in (tuple, list):
        return type(value)(_all(repeats, part) for part in value)
    if isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] == 1 < len(repeats.first):
        return value  # the same for all rows, such as a bias by positions
    if not isinstance(value, Tensor) or not value.dim() or value.shape[0] != len(repeats.first):
        raise _NotSharedError
    whole = take(value, repeats.back, len(repeats.first))
    repeats.equal[id(whole)] = whole
    return whole
