"""What is known of the batch from the outermost call of a model: its rows, its padding, and whether it is generating."""

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
    """The parameters of a module's forward, without the module itself."""

    named: tuple[inspect.Parameter, ...]
    open: bool  # whether it takes keywords of any name

    @property
    def required(self) -> tuple[inspect.Parameter, ...]:
        """The parameters without a default."""
        return tuple(p for p in self.named if p.default is p.empty)


def parameters_of(module: nn.Module) -> Parameters:
    """Return the parameters of a module's forward; none named, and open, where it has no signature."""
    try:
        found = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return Parameters((), True)
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Parameters(tuple(named), any(p.kind is p.VAR_KEYWORD for p in found))


def parameter_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the positional parameters of a module's forward."""
    return tuple(p.name for p in parameters_of(module).named if p.kind is not p.KEYWORD_ONLY)


class Call:
    """The outermost call, as far as compositions need to know it.

    Attributes:
        named: The inputs by name.
        beams: Whether a row may have become several consecutive ones: the call has a cache or an encoder's output.
        mask: The attention mask ``(batch, positions)`` of the encoder or only stack, or ``None``.
        decoder_mask: The attention mask of the decoder, or ``None``.
        two_stacks: Whether the model takes inputs for a decoder as well as for an encoder.
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

        Read off a tensor each time: with a number kept here a compiled model would be compiled again for every batch size.
        """
        return None if self._main is None else self._main.shape[0]

    @property
    def token_ids(self) -> Tensor | None:
        """The numbers of the tokens ``(batch, positions)``, where the inputs are such and can be looked at."""
        main = self._main
        if type(main) is not Tensor or main.dim() != 2 or main.is_floating_point() or main.is_meta:
            return None
        return main

    def mask_at(self, stack: str) -> Tensor | None:
        """Return the attention mask for a stack of layers: a decoder has its own, and a text's mask is not an image's."""
        if "vision" in stack or "visual" in stack or "image" in stack:
            return None
        return self.decoder_mask if self.two_stacks and "decoder" in stack else self.mask

    def input(self, name: str) -> Tensor:
        """Return an input tensor by its name.

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
            found = [v for v in self.named.values() if isinstance(v, Tensor) and v.dim() > 0]
            return found[0] if found else None
        decoded = any(isinstance(self.named.get(n), Tensor) for n in _MAIN[:2])
        agreed = decoded or all(t.shape[0] == found[0].shape[0] for t in found[1:])
        return found[0] if agreed else None


def _two_dimensional(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) and value.dim() == 2 else None


def repeat_rows(
    block: Replicate, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs with every row once for each child of a `Replicate`.

    Raises:
        CompositionError: If the batch size is not known, or the model is generating.
    """
    if call.beams:
        raise CompositionError(
            f"{block!r} cannot generate: the rows that it returns become the inputs of the next step; use MixedBatch"
        )
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
