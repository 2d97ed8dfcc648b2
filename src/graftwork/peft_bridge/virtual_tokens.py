"""What virtual tokens and prefixes have in common: peft's encoder, its weights, and the model inside that is given tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.frame import Frame
from graftwork.forward.plan import Plan
from graftwork.forward.runtime import Runtime
from graftwork.methods import Peft
from graftwork.peft_bridge.attention import Attending, Pair
from graftwork.peft_bridge.inner_model import close_inlet, open_inlet
from graftwork.peft_bridge.weights import Injected, spots
from graftwork.weights.names import encode

_KINDS = ("prompt_tuning", "p_tuning", "prefix_tuning")


class Virtual(Injected):
    """One adapter of virtual tokens: peft's encoder of them, or several, and where they enter the model."""

    def __init__(self, name: str, tuner: nn.Module, tokens: int, inner: nn.Module | None, runtime: Runtime) -> None:
        super().__init__(tuner, spots(tuner, "prompt", encode(name), set()))
        self.name = name
        self.tokens = tokens  # the number of virtual tokens
        self.inner = inner  # the model below the head whose inputs are changed, None where none are
        self.runtime = runtime
        self.longest = None if inner is None else _positions(inner)

    def follow(self, trained: bool) -> None:
        """Switch its dropout on while it is trained, off otherwise."""
        self.tuner.train(trained)

    def put_in(self) -> None:
        """Put it into the model."""
        if self.inner is not None:
            open_inlet(self.inner, self.runtime)

    def take_out(self) -> None:
        """Take it out again."""
        if self.inner is not None:
            close_inlet(self.inner)

    def prepare(self, plan: Plan) -> None:
        """Add what it reads to the taps of a plan."""

    def fronts(self, frame: Frame, block: Attending) -> list[Callable[[], Pair]]:
        """Return what makes keys and values for each of a block's attentions; empty where there are none."""
        return []

    def enter(self, frame: Frame, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model inside, by name, with the virtual tokens."""
        return named

    def require_whole(self, model: nn.Module, module: nn.Module) -> None:
        """Refuse a call of a part of the model in which the virtual tokens would not enter."""
        if self.inner is None or module is model or module is self.inner:
            return
        if all(part is not self.inner for part in module.modules()):
            raise CompositionError(
                f"{self.name!r} is active and goes in front of the tokens, which {type(module).__name__} is not given; "
                "call the model"
            )

    def require_room(self, positions: int) -> None:
        """Refuse more positions than the model has."""
        if self.longest is not None and positions + self.tokens > self.longest:
            raise CompositionError(
                f"{self.name!r} puts {self.tokens} virtual tokens in front of {positions}, and the model has {self.longest} "
                f"positions; give inputs of at most {self.longest - self.tokens}"
            )


def inner_model(model: Any) -> Any:
    """Return the model of transformers below heads and wrappers; a model without one is refused."""
    found = next((m for m in model.modules() if hasattr(m, "base_model") and hasattr(m, "config")), None)
    while found is not None and found.base_model is not found:
        found = found.base_model
    if found is None:
        raise ConfigError(
            f"peft takes the sizes of prompts and prefixes from a configuration of transformers, which {type(model).__name__} "
            "does not have; use a method that wraps layers, such as LoRA"
        )
    return found


def options_for(config: Peft, model: Any, **known: Any) -> Any:
    """Return peft's options with the sizes of the model filled in.

    Raises:
        ConfigError: If peft refuses them, or the method needs a forward of peft's own model.
    """
    from peft.utils import _prepare_prompt_learning_config

    saved = getattr(config.peft, "modules_to_save", None)  # not every method has the option
    if config.kind not in _KINDS or saved:
        raise ConfigError(
            f"peft's {config.kind} (modules_to_save={saved}) needs a forward of peft's own model; use "
            f"peft.get_peft_model(model, config) before gw.attach(model), or one of {', '.join(_KINDS)} without modules_to_save"
        )
    options = copy.deepcopy(config.peft)
    options.inference_mode = False
    options.num_transformer_submodules = options.num_transformer_submodules or 1
    # By the names that all configurations of transformers have; peft looks for some models' own names.
    known.setdefault("token_dim", getattr(model.config, "hidden_size", None))
    known.setdefault("num_attention_heads", getattr(model.config, "num_attention_heads", None))
    for name, value in known.items():
        if getattr(options, name) is None and isinstance(value, int):
            setattr(options, name, value)
    try:
        return _prepare_prompt_learning_config(options, model.config)
    except Exception as error:  # peft raises errors of many types; nothing is in the model yet
        raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error


def encoder_of(config: Peft, options: Any, *embeddings: nn.Module) -> nn.Module:
    """Have peft make the encoder of virtual tokens; what peft refuses is refused."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    try:
        encoder: nn.Module = PEFT_TYPE_TO_TUNER_MAPPING[options.peft_type](options, *embeddings)
    except Exception as error:  # see above
        raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error
    return encoder


def _positions(inner: nn.Module) -> int | None:
    """The number of positions that the model has embeddings for, ``None`` where it has no such table."""
    tables = [
        m.num_embeddings - (0 if m.padding_idx is None else m.padding_idx + 1)
        for name, m in inner.named_modules()
        if isinstance(m, nn.Embedding) and ("position" in name.rpartition(".")[2] or name.endswith("wpe"))
    ]
    return min(tables, default=None)
