"""The adapters of a model that another library's modules compute."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import nn

from graftwork.attach.holder import holder_at, holder_or_none
from graftwork.attach.injected.prompts import Prompted, prompted
from graftwork.attach.injected.weights import Weights
from graftwork.attach.injected.wrapped import Wrapped, wrapped
from graftwork.attach.runtime import Runtime
from graftwork.compose import Block, Composition, Stack, names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.methods import Peft


class Injected(Protocol):
    """One such adapter."""

    def weights(self) -> Weights:
        """Its weights as one module."""

    def put_in(self) -> None:
        """Put it into the model."""

    def take_out(self) -> None:
        """Take it out again, whatever came behind it."""

    def follow(self, learning: bool) -> None:
        """Have its dropout on only while it learns."""

    def require_ours(self, name: str) -> None:
        """Refuse what something else has changed."""


class Table:
    """All of them by name, in the order in which they were added."""

    def __init__(self, model: nn.Module, runtime: Runtime, prefix: str) -> None:
        self.model = model
        self.prefix = prefix
        self.runtime = runtime
        self._known: dict[str, Injected] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def add(self, name: str, config: Peft, head_paths: Iterable[str]) -> None:
        """Have the library make an adapter, and put it into the model.

        Raises:
            ConfigError: If it refuses the configuration, or what it does cannot be taken back or would have no effect.
            AttachError: If the model carries what was put there without graftwork.
        """
        if config.peft.is_prompt_learning:
            self._keep(name, prompted(self.model, name, config))
            return
        others = [one for one in self._known.values() if isinstance(one, Wrapped)]
        made = wrapped(self.model, name, config, self.runtime, others, self.prefix)
        for layer in made.layers:
            part = layer.path.partition(".")[0]
            if part in head_paths:
                raise ConfigError(
                    f"peft's {config.kind} would stand around {layer.path!r}, a part of the head, of which each adapter owns "
                    f"a copy that learns whole; leave it out: exclude_modules=[{part!r}], no modules_to_save of it"
                )
        self._keep(name, made)

    def _keep(self, name: str, made: Wrapped | Prompted) -> None:
        made.put_in()
        if any(True for _ in made.tuner.state_dict()):
            holder_at(self.model, "").tuners.put(name, made.tuner)
        self._known[name] = made

    def drop(self, name: str) -> None:
        """Take one out, if it is there."""
        made = self._known.pop(name, None)
        if made is not None:
            made.take_out()
            root = holder_or_none(self.model, "")
            if root is not None:
                root.tuners.drop(name)

    def clear(self) -> None:
        """Take all of them out, the last first."""
        for name in reversed(list(self._known)):
            self.drop(name)

    def weights(self, name: str) -> Weights | None:
        """The weights of one, ``None`` where there is none of that name."""
        return self._known[name].weights() if name in self._known else None

    def before_forward(self, training: bool, learning: Iterable[str]) -> None:
        """Work at the start of a forward pass: dropout follows what learns, and nothing else has had its hands on it.

        Raises:
            AttachError: If something else has.
        """
        for name, made in self._known.items():
            made.require_ours(name)
            if training:
                made.follow(name in learning)

    def active_in(self, composition: Composition) -> tuple[str, ...]:
        """Those of a composition.

        Raises:
            CompositionError: If one stands in a block that weighs, or that gives rows or positions to its children.
        """
        if isinstance(composition, Block):
            for part in composition.walk():
                if isinstance(part, Block) and not isinstance(part, Stack):
                    inside = [name for name in names_in(part) if name in self._known]
                    if inside:
                        raise CompositionError(
                            f"{part!r}: {inside[0]!r} changes layers of the model from within and adds nothing at a site "
                            "that could be weighed or given to some rows; it composes in a Stack, or alone"
                        )
        return tuple(name for name in names_in(composition) if name in self._known)

    def prompt_in(self, composition: Composition) -> Prompted | None:
        """The one of a composition that puts virtual tokens in front.

        Raises:
            CompositionError: If there are several.
        """
        found = [
            one for name, one in self._known.items() if name in names_in(composition) and isinstance(one, Prompted)
        ]
        if len(found) > 1:
            raise CompositionError(
                f"{composition!r}: {found[0].name!r} and {found[1].name!r} both put virtual tokens in front; name one of them"
            )
        return found[0] if found else None
