"""What virtual tokens and prefixes have in common: peft's encoder, its weights, and the model inside that is given tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.frame import Frame
from graftwork.forward.plan import Plan
from graftwork.methods import Peft
from graftwork.peft_bridge.attention import Attending, Pair
from graftwork.peft_bridge.weights import Weights, spots
from graftwork.weights.names import encode

KINDS = ("prompt_tuning", "p_tuning", "prefix_tuning")


class Virtual:
    """One adapter of virtual tokens.

    Attributes:
        name: The adapter's name.
        tuner: peft's encoder, or several.
        many: Number of the virtual tokens.
        inner: The model that it enters, below a head: what the whole model is given passes it. ``None`` where no call of it
            need be seen.
    """

    def __init__(self, name: str, tuner: nn.Module, many: int, inner: nn.Module | None) -> None:
        self.name = name
        self.tuner = tuner
        self.many = many
        self.inner = inner
        self.longest = None if inner is None else _positions(inner)
        self.spots = spots(tuner, "prompt", encode(name), set())
        for spot in self.spots.values():
            spot.tensor.requires_grad_(False)

    def weights(self) -> Weights:
        """Its weights as one module."""
        return Weights({name: spot.tensor for name, spot in self.spots.items()}, self.spots)

    def follow(self, learning: bool) -> None:
        """Have its dropout on only while it learns."""
        self.tuner.train(learning)

    def require_ours(self, name: str) -> None:
        """Nothing that peft could have set."""

    def put_in(self) -> None:
        """Put it into the model."""

    def take_out(self) -> None:
        """Take it out again."""

    def prepare(self, plan: Plan) -> None:
        """Say in a plan what must be carried."""

    def fronts(self, frame: Frame, block: Attending) -> list[Callable[[], Pair]]:
        """What makes keys and values for a block's attentions; nothing where there are none."""
        return []

    def enter(self, frame: Frame, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
        """The inputs of the model inside, by name, as they are with it."""
        return named

    def require_whole(self, model: nn.Module, module: nn.Module) -> None:
        """Refuse a call that does not pass the model which it enters.

        Raises:
            CompositionError: If a part is called.
        """
        if self.inner is None or module is model or module is self.inner:
            return
        if all(part is not self.inner for part in module.modules()):
            raise CompositionError(
                f"{self.name!r} is active and goes in front of the tokens, which {type(module).__name__} is not given; "
                "call the model"
            )

    def require_room(self, positions: int) -> None:
        """Refuse more positions than the model has.

        Raises:
            CompositionError: Naming them.
        """
        if self.longest is not None and positions + self.many > self.longest:
            raise CompositionError(
                f"{self.name!r} puts {self.many} virtual tokens in front of {positions}, and the model has {self.longest} "
                f"positions; give inputs of at most {self.longest - self.many}"
            )


def inner_model(model: Any) -> Any:
    """The model of transformers below heads and wrappers.

    Raises:
        ConfigError: If there is none.
    """
    found = next((m for m in model.modules() if hasattr(m, "base_model") and hasattr(m, "config")), None)
    while found is not None and found.base_model is not found:
        found = found.base_model
    if found is None:
        raise ConfigError(
            f"prompts and prefixes of peft are laid out by a configuration of transformers, which {type(model).__name__} has "
            "not; use a method that stands around layers, such as LoRA"
        )
    return found


def options_for(config: Peft, model: Any, **known: Any) -> Any:
    """Peft's options with the sizes of the model filled in.

    Raises:
        ConfigError: If peft refuses them, or the method needs a forward of peft's own model.
    """
    from peft.utils import _prepare_prompt_learning_config

    if config.kind not in KINDS or config.peft.modules_to_save:
        raise ConfigError(
            f"peft's {config.kind} (modules_to_save={config.peft.modules_to_save}) needs a forward of peft's own model; use "
            f"peft.get_peft_model(model, config) before gw.attach(model), or one of {', '.join(KINDS)} without modules_to_save"
        )
    options = copy.deepcopy(config.peft)
    options.inference_mode = False
    options.num_transformer_submodules = options.num_transformer_submodules or 1
    # By the names that all configurations of transformers answer to; peft looks for some of their own.
    sizes = {"token_dim": "hidden_size", "num_attention_heads": "num_attention_heads"}
    told = {name: getattr(model.config, theirs, None) for name, theirs in sizes.items()}
    for name, value in {**told, **known}.items():
        if getattr(options, name) is None and isinstance(value, int):
            setattr(options, name, value)
    try:
        return _prepare_prompt_learning_config(options, model.config)
    except Exception as error:  # peft raises what it likes; nothing is in the model yet
        raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error


def _positions(inner: nn.Module) -> int | None:
    """The positions that a table of the model has, ``None`` where it has none."""
    tables = [
        m.num_embeddings - (0 if m.padding_idx is None else m.padding_idx + 1)
        for name, m in inner.named_modules()
        if isinstance(m, nn.Embedding) and ("position" in name.rpartition(".")[2] or name.endswith("wpe"))
    ]
    return min(tables, default=None)
