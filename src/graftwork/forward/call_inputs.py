"""What the outermost call of a model says of the batch: its rows, its padding, and whether it is generating."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graftwork.compose import Replicate
from graftwork.errors import AttachError, CompositionError

_MAIN = (
    "decoder_input_ids",
    "decoder_inputs_embeds",
    "input_ids",
    "inputs_embeds",
    "pixel_values",
    "input_features",
    "input_values",
    "encoder_outputs",
)


class Parameters(NamedTuple):
    """The parameters of a module's forward.

    Attributes:
        named: Those that have a name, in order, without the module itself.
        open: Whether it takes keywords of any name.
    """

    named: tuple[inspect.Parameter, ...]
    open: bool

    @property
    def required(self) -> tuple[inspect.Parameter, ...]:
        """Those that have no default."""
        return tuple(p for p in self.named if p.default is p.empty)


def parameters_of(module: nn.Module) -> Parameters:
    """The parameters of a module's forward as it is called; any where they cannot be told."""
    try:
        found = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return Parameters((), True)
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Parameters(tuple(named), any(p.kind is p.VAR_KEYWORD for p in found))


def parameter_names(module: nn.Module) -> tuple[str, ...]:
    """The names of the positional parameters of a module's forward."""
    return tuple(p.name for p in parameters_of(module).named if p.kind is not p.KEYWORD_ONLY)


_CACHES = ("past_key_values", "cache_params", "mems", "state")


class Call:
    """The outermost call, as far as compositions need to know it.

    Attributes:
        named: The inputs by name.
        beams: Whether rows may be repeated behind one another: a cache or an encoder's output came in from outside.
        mask: The attention mask ``(batch, positions)`` of the encoder or only stack, or ``None``.
        decoder_mask: That of the decoder, or ``None``.
        two_stacks: Whether the call has inputs for a decoder apart from those for its encoder.
    """

    def __init__(self, names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        for value in (*args, *kwargs.values()):  # a SentenceTransformer takes one mapping of features
            if isinstance(value, Mapping):
                named = {**value, **named}
        self.named = named
        self._main = self._main_input()
        self.beams = named.get("past_key_values") is not None or named.get("encoder_outputs") is not None
        self.mask = _two_dimensional(named.get("attention_mask"))
        padding = _two_dimensional(named.get("src_key_padding_mask"))
        if self.mask is None and padding is not None and padding.dtype is torch.bool:
            self.mask = ~padding
        self.two_stacks = any(name.startswith("decoder_") for name in (*names, *named))
        self.decoder_mask = _two_dimensional(named.get("decoder_attention_mask"))

    @property
    def rows(self) -> int | None:
        """The batch size, ``None`` where the inputs do not agree on one.

        Read off a tensor each time: a number kept here would have a compiled model compiled anew for every batch size.
        """
        return None if self._main is None else self._main.shape[0]

    def mask_at(self, stack: str) -> Tensor | None:
        """The attention mask of a stack of layers: an encoder's says nothing of a decoder's positions, a text's of an image's."""
        if any(word in stack for word in ("vision", "visual", "image")):
            return None
        return self.decoder_mask if self.two_stacks and "decoder" in stack else self.mask

    def input(self, name: str) -> Tensor:
        """A tensor among the inputs, by its name.

        Raises:
            AttachError: If there is none of that name.
        """
        value = self.named.get(name)
        if isinstance(value, Tensor):
            return value
        here = ", ".join(n for n, v in self.named.items() if isinstance(v, Tensor)) or "none"
        raise AttachError(
            f"what is active takes the input {name!r}, which is no tensor of this call (those are: {here}); give it to the "
            "model's own forward, in which all parts of the model run"
        )

    def _main_input(self) -> Tensor | None:
        found = [self.named[n] for n in _MAIN if isinstance(self.named.get(n), Tensor)]
        if not found:
            found = [v for v in self.named.values() if isinstance(v, Tensor) and v.dim() > 0][:1]
        if not found:
            return None
        decoded = any(isinstance(self.named.get(n), Tensor) for n in _MAIN[:2])
        agreed = decoded or all(t.shape[0] == found[0].shape[0] for t in found[1:])
        return found[0] if agreed else None


def _two_dimensional(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) and value.dim() == 2 else None


def repeat_rows(
    block: Replicate, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs with every row once for each child of a `Replicate`.

    Raises:
        CompositionError: If the batch size is not known, or the model is generating.
    """
    if call.beams:
        raise CompositionError(f"{block!r} cannot generate: the rows that come back are fed in again; use MixedBatch")
    if call.rows is None:
        raise CompositionError(f"{block!r} needs the batch size, and the model's inputs do not agree on one")
    rows, times = call.rows, len(block.children)

    def repeat(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.repeat(times, *(1,) * (value.dim() - 1)) if value.dim() and value.shape[0] == rows else value
        if isinstance(value, Mapping):
            return type(value)({k: repeat(v) for k, v in value.items()})  # type: ignore[call-arg]
        return value

    return tuple(repeat(a) for a in args), {k: repeat(v) for k, v in kwargs.items()}


def refuse_embedded(path: str, composition: object, call: Call) -> None:
    """Refuse embeddings from outside where the model's own are adapted as they are looked up.

    Raises:
        CompositionError: If the call has them.
    """
    given = next((n for n in ("inputs_embeds", "decoder_inputs_embeds") if call.named.get(n) is not None), None)
    if given is not None:
        raise CompositionError(
            f"{composition!r} adds to what {path!r} returns, and with {given} nothing is looked up there; give the tokens"
        )


def refuse_unseen(mixing: Mapping[str, bool], call: Call) -> None:
    """Refuse calls in which an adapter that mixes positions cannot know which of them to look at.

    Args:
        mixing: The active adapters that mix positions, and whether they do in a decoder.
        call: The call.

    Raises:
        CompositionError: If a cache keeps earlier positions back, or the attention mask is not by rows and positions.
    """
    cached = next((name for name, causal in mixing.items() if causal), None)
    cache = next((name for name in _CACHES if call.named.get(name) is not None), None)
    if cached is not None and cache is not None:
        raise CompositionError(
            f"{cached!r} mixes positions, and with a cache ({cache}) it is not given the earlier ones; generate with "
            "use_cache=False"
        )
    mask = call.named.get("attention_mask")
    if mask is not None and call.mask is None:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise CompositionError(
            f"{next(iter(mixing))!r} mixes positions and needs an attention mask (batch, positions), not {shape}; give the "
            "padding mask, and positions that see one another in one row"
        )


def refuse_packed(composition: object, call: Call) -> None:
    """Refuse several texts packed into one row, which what is active would let see one another.

    Raises:
        CompositionError: If positions start again inside a row.
    """
    positions = call.named.get("position_ids")
    if not isinstance(positions, Tensor) or positions.dim() != 2 or torch.compiler.is_compiling():
        return
    again = positions[:, 1:] <= positions[:, :-1]
    mask = call.mask
    if mask is not None and mask.shape == positions.shape:  # padding is given any position
        there = mask.bool()
        again = again & there[:, 1:] & there[:, :-1]
    if again.any():
        raise CompositionError(
            f"{composition!r} lets positions of a row see one another, and position_ids start again inside a row: several texts "
            "are packed into it; give one text a row, with its padding mask"
        )
