"""The adapters of a model that another library's modules compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from graftwork.compose import Block, Composition, Stack, names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.runtime import Runtime
from graftwork.methods import AdapterConfig, Peft
from graftwork.peft_bridge.layers import Wrapped, wrapped
from graftwork.peft_bridge.prefix import prefix
from graftwork.peft_bridge.prompts import prompted
from graftwork.peft_bridge.virtual_tokens import Virtual
from graftwork.peft_bridge.weights import together
from graftwork.sites import SiteMap
from graftwork.weights.holder import Named, drop_empty, holder_at, holder_or_none


class PeftAdapters:
    """The adapters of peft by name, in the order in which they were added."""

    def __init__(self, model: nn.Module, runtime: Runtime, sites: SiteMap) -> None:
        self.model = model
        self.sites = sites
        self.runtime = runtime
        # Replaced by changes, never edited. Of a union each part has its key in `AdapterConfig.injected`.
        self._known: dict[str, dict[str, Wrapped | Virtual]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def add(self, name: str, configs: Mapping[str, AdapterConfig], head_paths: Iterable[str]) -> None:
        """Have peft make an adapter, all its parts or none, and put it into the model.

        Raises:
            ConfigError: If peft refuses a configuration, or what it does cannot be undone or would have no effect.
            AttachError: If the model carries adapters that peft put there without graftwork.
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
        made: Wrapped | Virtual
        if config.peft.is_prompt_learning:
            if any(isinstance(one, Virtual) for one in self._known.get(name, {}).values()):
                raise ConfigError(f"{name!r} would put virtual tokens in front twice; give one prompt or prefix")
            if config.kind == "prefix_tuning":
                made = prefix(self.model, self.sites, name, config, self.runtime)
            else:
                made = prompted(self.model, name, config, self.runtime)
        else:
            others = [one for parts in self._known.values() for one in parts.values() if isinstance(one, Wrapped)]
            made = wrapped(self.model, name, config, self.runtime, others, self.sites)
            for layer in made.layers:
                part = layer.path.partition(".")[0]
                if part in head_paths:
                    raise ConfigError(
                        f"peft's {config.kind} would wrap {layer.path!r}, a part of the head, of which each adapter has a copy "
                        f"that is trained whole; leave it out: exclude_modules=[{part!r}], no modules_to_save of it"
                    )
        made.put_in()
        if any(True for _ in made.tuner.state_dict()):
            tuners = holder_at(self.model, "").tuners
            if tuners.find(name) is None:
                tuners.put(name, Named())
            tuners.find(name).put(key, made.tuner)  # type: ignore[union-attr, operator]
        self._known = {**self._known, name: {**self._known.get(name, {}), key: made}}

    def drop(self, name: str) -> None:
        """Take an adapter out, if it is there."""
        parts = self._known.get(name, {})
        self._known = {key: value for key, value in self._known.items() if key != name}
        for made in reversed(parts.values()):
            made.take_out()
        root = holder_or_none(self.model, "")
        if root is not None:
            root.tuners.drop(name)

    def clear(self) -> None:
        """Take all adapters out, the last first."""
        for name in reversed(list(self._known)):
            self.drop(name)

    def weights(self, name: str) -> nn.Module | None:
        """The weights of an adapter, a union's parts as children; ``None`` where there is no adapter of that name."""
        parts = {key: one.weights() for key, one in self._known.get(name, {}).items()}
        return parts.get("") or (together({key.rstrip("."): found for key, found in parts.items()}) if parts else None)

    def before_forward(self, training: bool, learning: Iterable[str]) -> None:
        """Work at the start of a forward pass: switch dropout on for what is trained, refuse layers that peft has set.

        Raises:
            AttachError: If peft has activated or merged adapters by itself.
        """
        for name, parts in self._known.items():
            for made in parts.values():
                if isinstance(made, Wrapped):
                    made.require_ours(name)
                if training:
                    made.follow(name in learning)

    def active_in(self, composition: Composition) -> tuple[str, ...]:
        """The adapters of peft in a composition, each once for every part of it.

        Raises:
            CompositionError: If one is in a block that weighs, or that gives rows or positions to its children.
        """
        for part in composition.walk() if isinstance(composition, Block) else ():
            if isinstance(part, Block) and not isinstance(part, Stack):
                inside = [name for name in names_in(part) if name in self._known]
                if inside:
                    raise CompositionError(
                        f"{part!r}: {inside[0]!r} changes layers of the model from within and adds nothing at a site that "
                        "could be weighed or given to some rows; it composes in a Stack, or alone"
                    )
        return tuple(name for name in names_in(composition) for _ in self._known.get(name, ()))

    def prompt_in(self, composition: Composition) -> Virtual | None:
        """The adapter of a composition that puts virtual tokens in front; several are refused."""
        active = [parts for name, parts in self._known.items() if name in names_in(composition)]
        found = [one for parts in active for one in parts.values() if isinstance(one, Virtual)]
        if len(found) > 1:
            raise CompositionError(
                f"{composition!r}: {found[0].name!r} and {found[1].name!r} both put virtual tokens in front; name one of them"
            )
        return found[0] if found else None
