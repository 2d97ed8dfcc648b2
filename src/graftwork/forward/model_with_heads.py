"""A base model with named heads of any kind: several tasks on one model, one head each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.heads_in_use import SeveralHeads
from graftwork.forward.runtime import AttachedModel
from graftwork.forward.stand_ins import by_row
from graftwork.heads import Backbone, Head
from graftwork.weights.tied import all_names, each_once

HANDLE = "_graftwork_handle"
HEAD_PATH = "head"
Part = tuple[str, Head, tuple[int, ...] | None]


class Forward:
    """The forward of a `ModelWithHeads` model, with the base's own parameters by name and ``labels``."""

    def __init__(self, headed: ModelWithHeads) -> None:
        self.headed = headed

    @property
    def __signature__(self) -> inspect.Signature:
        found = inspect.signature(self.headed.base.forward).parameters.values()
        named = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in found
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "labels"
        ]
        labels = inspect.Parameter("labels", inspect.Parameter.KEYWORD_ONLY, default=None)
        return inspect.Signature([*named, labels, *(p for p in found if p.kind is p.VAR_KEYWORD)])

    def __call__(self, **inputs: Any) -> Any:
        return ModelWithHeads.forward(self.headed, **inputs)


class ModelWithHeads(nn.Module):
    """A base model without a head, to which heads are added by name.

    A head is added by the name of an adapter or a fusion, and belongs to it, or under a name of its own. The active composition
    decides which head runs. With heads by rows, or several at once, the output's ``by_head`` has the output of each.

    The base may also be a model with an output layer over the vocabulary (an AutoModelForSeq2SeqLM, say): language-model heads
    then use that layer, `generate` is the base's own, and every other head reads the hidden states of the model inside.

    Attributes:
        base: The base model.

    Example:
        >>> from transformers import AutoModel
        >>> headed = gw.ModelWithHeads(AutoModel.from_config(model.config))
        >>> adapters = gw.attach(headed)
        >>> adapters.add("a", "pfeiffer")
        >>> adapters.add_head("a", gw.heads.Classification(labels=3))
        >>> adapters.active = "a"
        >>> headed(**batch, labels=labels).logits.shape
        torch.Size([2, 3])
    """

    base_model_prefix = "base"
    # For Trainer: the losses here are means over the batch, not sums over tokens to be divided by a number that it counts.
    accepts_loss_kwargs = False

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.register_state_dict_post_hook(each_once)
        self.register_load_state_dict_pre_hook(all_names)
        self.training = base.training
        # An attribute of the instance, so that its signature has the base's parameters: a Trainer drops all other columns.
        self.__dict__["forward"] = Forward(self)

    def forward(self, *, labels: Tensor | Mapping[str, Tensor] | None = None, **inputs: Any) -> Any:
        """Run the base and the heads in use.

        Args:
            labels: A tensor as the head takes it (see `graftwork.heads`), for all rows; or one for each head by name, for
                all rows or for the head's own.
            inputs: The base's own arguments, by name.

        Returns:
            A `HeadOutput`; the base's own output where no head is in use.

        Raises:
            CompositionError: If labels are given and no head is in use, or the heads in use cannot run together.
        """
        parts = self._parts()
        if not parts:
            return self._bare(labels, inputs)
        from graftwork.heads.output import HeadOutput  # it imports transformers, which takes long

        states, inputs = self._states([head for _, head, _ in parts], inputs, labels)
        outputs = {}
        for name, head, rows in parts:
            own = labels.get(name) if isinstance(labels, Mapping) else labels
            loss, logits = _run(head, rows, states, inputs, own)
            outputs[name] = HeadOutput(loss=loss, logits=logits, rows=rows)
        if len(outputs) == 1 and rows is None:
            return outputs[name]
        losses = [(o.loss, 1.0 if o.rows is None else len(o.rows) / states.shape[0]) for o in outputs.values()]
        known = [loss * share for loss, share in losses if loss is not None]
        return HeadOutput(loss=torch.stack(known).sum() if known else None, by_head=outputs)

    def generate(self, **inputs: Any) -> Any:
        """Run the base's own `generate` with what is active; without a cache where an adapter needs all earlier positions.

        Args:
            inputs: The arguments of the base's `generate`, by name.

        Returns:
            What the base's `generate` returns.

        Raises:
            ConfigError: If the base cannot generate.
        """
        if not hasattr(self.base, "generate") or not self.computes_words:
            raise ConfigError(
                f"{type(self.base).__name__} cannot generate; build ModelWithHeads from the AutoModelForSeq2SeqLM or "
                "AutoModelForCausalLM of the same model"
            )
        if self.looks_back:
            inputs = {"use_cache": False, **inputs}
        return self.base.generate(**inputs)  # type: ignore[operator]

    @property
    def looks_back(self) -> bool:
        """Whether an adapter that is active in a decoder needs all earlier positions."""
        handle: AttachedModel | None = self.__dict__.get(HANDLE)
        plan = None if handle is None else handle.runtime.current_plan()
        return plan is not None and plan.looks_back

    def _parts(self) -> list[Part]:
        """The heads in use: name, module, and its rows (``None`` for all)."""
        handle: AttachedModel | None = self.__dict__.get(HANDLE)
        frame = None if handle is None else handle.runtime.frame
        choice = None if frame is None else frame.plan.named_heads
        if handle is None or frame is None or choice is None:
            return []
        rows_of: dict[str, tuple[int, ...] | None]
        if isinstance(choice, (str, SeveralHeads)):
            rows_of = dict.fromkeys([choice] if isinstance(choice, str) else choice.names)
        elif frame.call.rows is None:
            raise CompositionError("heads by rows need the batch size, and the model's inputs do not agree on one")
        else:
            names = by_row(choice, frame.call.rows, frame.call.beams)
            known = [name for name in dict.fromkeys(names) if name is not None]
            rows_of = {name: tuple(n for n, other in enumerate(names) if other == name) for name in known}
        return [(name, handle.head_of(name)[HEAD_PATH], rows) for name, rows in rows_of.items()]  # type: ignore[misc]

    def _bare(self, labels: Any, inputs: dict[str, Any]) -> Any:
        if labels is None:
            return self.base(**inputs)
        if self.computes_words:
            return self.base(labels=labels, **inputs)
        handle: AttachedModel | None = self.__dict__.get(HANDLE)
        active = None if handle is None else handle.runtime.active
        raise CompositionError(
            f"labels are given, but no head is in use (active: {active!r}); give what is active a head with "
            "add_head(name, ...), or say which: adapters.activate(..., head=name)"
        )

    def _states(self, heads: list[Head], inputs: dict[str, Any], labels: Any) -> tuple[Tensor, dict[str, Any]]:
        """The base's last hidden states, or its logits where the heads take those; and what it was called with."""
        kinds = {(head.takes_logits, head.decodes) for head in heads}
        if len(kinds) > 1:
            raise CompositionError(
                "a language-model head and another one are in use together, which read the base differently; run them "
                "one after another"
            )
        ((takes_logits, decodes),) = kinds
        inner = getattr(self.base, "base_model", self.base)
        if getattr(self.config, "is_encoder_decoder", False):
            inputs = {**inputs, **self._decoder_inputs(inputs, labels, decodes)}
        if takes_logits:
            return self.base(**inputs).logits, inputs
        if inner is self.base and self.computes_words:  # T5: no model inside returns the states
            outputs = self.base(**inputs, output_hidden_states=True)
            states = outputs.get("decoder_hidden_states") or outputs["hidden_states"]
            return states[-1], inputs
        outputs = (inner if self.computes_words else self.base)(**inputs)
        states = outputs["last_hidden_state"] if hasattr(outputs, "keys") else outputs[0]
        return states, _of_frames(inner, inputs, states)

    def _decoder_inputs(self, inputs: Mapping[str, Any], labels: Any, decodes: bool) -> dict[str, Tensor]:
        """The decoder's inputs where the call has none: the labels, or the encoder's input, one place to the right."""
        if inputs.get("decoder_input_ids") is not None or inputs.get("decoder_inputs_embeds") is not None:
            return {}
        if decodes:
            if isinstance(labels, Mapping):
                labels = next(iter(labels.values()), None)
            return {} if labels is None else {"decoder_input_ids": self.shifted(labels)}
        ids = inputs.get("input_ids")
        if ids is None:
            return {}
        mask = inputs.get("attention_mask")
        return {"decoder_input_ids": self.shifted(ids), **({} if mask is None else {"decoder_attention_mask": mask})}

    def shifted(self, ids: Tensor) -> Tensor:
        """Return token numbers one place to the right, after the decoder's start token, with -100 replaced by padding."""
        config = self.config
        pad = getattr(config, "pad_token_id", None)
        start = getattr(config, "decoder_start_token_id", None)
        pad = 0 if pad is None else pad
        moved = torch.cat([torch.full_like(ids[:, :1], pad if start is None else start), ids[:, :-1]], dim=1)
        return moved.masked_fill(moved == -100, pad)

    def backbone(self, causal: bool, width: int) -> Backbone:
        """Return what heads are built from.

        Args:
            causal: Whether a position sees only earlier positions.
            width: Width of the last site.
        """
        config = self.config
        sizes = getattr(config, "hidden_sizes", None)
        own = sizes[-1] if isinstance(sizes, (list, tuple)) and sizes else getattr(config, "hidden_size", None)
        embeddings = getattr(self.get_input_embeddings(), "weight", None)
        rates = (getattr(config, name, None) for name in ("classifier_dropout", "hidden_dropout_prob", "dropout_rate"))
        std = getattr(config, "initializer_range", None)
        return Backbone(
            width=own if isinstance(own, int) else width,
            dropout=next((rate for rate in rates if isinstance(rate, float)), 0.1),
            std=std if isinstance(std, float) else 0.02,
            pooling=self._pooling(causal),
            embeddings=embeddings if isinstance(embeddings, nn.Parameter) and embeddings.dim() == 2 else None,
            has_output=self.computes_words,
        )

    def _pooling(self, causal: bool) -> str:
        if getattr(self.config, "is_encoder_decoder", False) or causal:
            return "last"
        if self.main_input_name == "pixel_values":
            return "first" if any("cls_token" in name for name, _ in self.base.named_parameters()) else "mean"
        return "first"

    # -- what transformers and its Trainer use of a model ------------------------------------------------------------

    @property
    def config(self) -> Any:
        """The base's configuration."""
        return getattr(self.base, "config", None)

    @property
    def base_model(self) -> nn.Module:
        """The base model."""
        return self.base

    def get_base_model(self) -> nn.Module:
        """The base model."""
        return self.base

    @property
    def computes_words(self) -> bool:
        """Whether the base has an output layer over the vocabulary."""
        return self.get_output_embeddings() is not None

    @property
    def main_input_name(self) -> str:
        """The name of the base's main input."""
        return str(getattr(self.base, "main_input_name", "input_ids"))

    @property
    def device(self) -> torch.device:
        """The device of the base's weights."""
        return next(self.base.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base's weights."""
        return next(self.base.parameters()).dtype

    def get_input_embeddings(self) -> nn.Module | None:
        """Return the base's input embeddings, ``None`` where it has none."""
        getter = getattr(self.base, "get_input_embeddings", None)
        try:
            return None if getter is None else getter()
        except NotImplementedError:
            return None

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the base's output layer over the vocabulary, ``None`` where it has none."""
        getter = getattr(self.base, "get_output_embeddings", None)
        return None if getter is None else getter()

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Call the base's own method."""
        self.base.gradient_checkpointing_enable(**options)  # type: ignore[operator, union-attr]

    def gradient_checkpointing_disable(self) -> None:
        """Call the base's own method."""
        self.base.gradient_checkpointing_disable()  # type: ignore[operator, union-attr]


def _of_frames(base: nn.Module, inputs: dict[str, Any], states: Tensor) -> dict[str, Any]:
    """The inputs with the mask of the states: a speech model is given one of samples, and computes on frames of these."""
    mask, reduce = inputs.get("attention_mask"), getattr(base, "_get_feature_vector_attention_mask", None)
    if reduce is None or not isinstance(mask, Tensor) or states.dim() != 3 or mask.shape == states.shape[:2]:
        return inputs
    return {**inputs, "attention_mask": reduce(states.shape[1], mask)}


def _run(
    head: Head, rows: tuple[int, ...] | None, states: Tensor, inputs: Mapping[str, Any], labels: Tensor | None
) -> tuple[Tensor | None, Tensor]:
    """The loss and the logits of a head, on all rows or some."""
    if rows is not None:
        batch, index = states.shape[0], list(rows)
        inputs = {
            key: value[index] if isinstance(value, Tensor) and value.dim() and value.shape[0] == batch else value
            for key, value in inputs.items()
        }
        if labels is not None and labels.shape[0] == batch:
            labels = labels[index]
        states = states[index]
    logits = head(states, inputs)
    return None if labels is None else head.loss(logits, labels), logits
