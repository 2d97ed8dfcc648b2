"""The adapters of a model that another library's modules compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from torch import nn

from graftwork.compose import Block, Composition, Stack, names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.runtime import Runtime
from graftwork.methods import AdapterConfig, Peft
from graftwork.peft_bridge.layers import Wrapped, wrapped
from graftwork.peft_bridge.prefix import prefix
from graftwork.peft_bridge.prompts import prompted
from graftwork.peft_bridge.virtual_tokens import Virtual
from graftwork.peft_bridge.weights import Weights, together
from graftwork.sites import SiteMap
from graftwork.weights.holder import Named, drop_empty, holder_at, holder_or_none


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


class PeftAdapters:
    """All of them by name, in the order in which they were added; of a union each part by its key in `AdapterConfig.injected`."""

    def __init__(self, model: nn.Module, runtime: Runtime, sites: SiteMap) -> None:
        self.model = model
        self.sites = sites
        self.runtime = runtime
        self._known: dict[str, dict[str, Injected]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def add(self, name: str, configs: Mapping[str, AdapterConfig], head_paths: Iterable[str]) -> None:
        """Have the library make an adapter, all its parts or none, and put it into the model.

        Raises:
            ConfigError: If it refuses a configuration, or what it does cannot be taken back or would have no effect.
            AttachError: If the model carries what was put there without graftwork.
        """
        try:
            for key, config in configs.items():
                assert isinstance(config, Peft)
                self._add_part(name, key, config, head_paths)
        except BaseException:
            self.drop(name)
            drop_empty(self.model)
            raise

    def _add_part(self, name: str, key: str, config: Peft, head_paths: Iterable[str]) -> None:
        if config.peft.is_prompt_learning:
            if any(isinstance(one, Virtual) for one in self._known.get(name, {}).values()):
                raise ConfigError(f"{name!r} would put virtual tokens in front twice; give one prompt or prefix")
            self._keep(name, key, self._virtual(name, config))
            return
        others = [one for parts in self._known.values() for one in parts.values() if isinstance(one, Wrapped)]
        made = wrapped(self.model, name, config, self.runtime, others, self.sites)
        for layer in made.layers:
            part = layer.path.partition(".")[0]
            if part in head_paths:
                raise ConfigError(
                    f"peft's {config.kind} would stand around {layer.path!r}, a part of the head, of which each adapter owns "
                    f"a copy that learns whole; leave it out: exclude_modules=[{part!r}], no modules_to_save of it"
                )
        self._keep(name, key, made)

    def _virtual(self, name: str, config: Peft) -> Virtual:
        if config.kind == "prefix_tuning":
            return prefix(self.model, self.sites, name, config, self.runtime)
        return prompted(self.model, name, config, self.runtime)

    def _keep(self, name: str, key: str, made: Wrapped | Virtual) -> None:
        made.put_in()
        if any(True for _ in made.tuner.state_dict()):
            tuners = holder_at(self.model, "").tuners
            if tuners.find(name) is None:
                tuners.put(name, Named())
            tuners.find(name).put(key, made.tuner)  # type: ignore[union-attr, operator]
        self._known = {**self._known, name: {**self._known.get(name, {}), key: made}}

    def drop(self, name: str) -> None:
        """Take one out, if it is there."""
        parts = self._known.get(name, {})
        self._known = {key: value for key, value in self._known.items() if key != name}
        for made in reversed(parts.values()):
            made.take_out()
        root = holder_or_none(self.model, "")
        if root is not None:
            root.tuners.drop(name)

    def clear(self) -> None:
        """Take all of them out, the last first."""
        for name in reversed(list(self._known)):
            self.drop(name)

    def weights(self, name: str) -> nn.Module | None:
        """The weights of one, those of a union's parts as its children; ``None`` where there is none of that name."""
        parts = {key: one.weights() for key, one in self._known.get(name, {}).items()}
        return parts.get("") or (together({key.rstrip("."): found for key, found in parts.items()}) if parts else None)

    def before_forward(self, training: bool, learning: Iterable[str]) -> None:
        """Work at the start of a forward pass: dropout follows what learns, and nothing else has had its hands on it.

        Raises:
            AttachError: If something else has.
        """
        for name, parts in self._known.items():
            for made in parts.values():
                made.require_ours(name)
                if training:
                    made.follow(name in learning)

    def active_in(self, composition: Composition) -> tuple[str, ...]:
        """Those of a composition, each once for every part of it.

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
        return tuple(name for name in names_in(composition) for _ in self._known.get(name, ()))

    def prompt_in(self, composition: Composition) -> Virtual | None:
        """The one of a composition that puts virtual tokens in front.

        Raises:
            CompositionError: If there are several.
        """
        active = [parts for name, parts in self._known.items() if name in names_in(composition)]
        found = [one for parts in active for one in parts.values() if isinstance(one, Virtual)]
        if len(found) > 1:
            raise CompositionError(
                f"{composition!r}: {found[0].name!r} and {found[1].name!r} both put virtual tokens in front; name one of them"
            )
        return found[0] if found else None
