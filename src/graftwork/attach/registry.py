"""The registry of a model: adding and removing adapters, fusions and heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from graftwork.attach import building, members
from graftwork.attach.changes import changing, one_at_a_time, whole
from graftwork.attach.named_heads import OwnHead, head_copy, made_head, make_named_head
from graftwork.attach.norms import drop_norms, put_norms, with_statistics
from graftwork.attach.planning import new_fusion, plan_of
from graftwork.attach.state import ModelState
from graftwork.attach.wiring import rehome, unwire_projection, wire_projection
from graftwork.compose import Learned, LearnedConfig, LearnedModule, config_for, names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.forward.shown_labels import show
from graftwork.heads import HeadConfig
from graftwork.methods import AdapterConfig, AdapterModule, Peft, config_from_text, is_peft
from graftwork.peft_bridge.native import native_config
from graftwork.weights.holder import SiteAdapters, drop_empty, holder_at, holder_or_none
from graftwork.weights.names import check_new, full_name


class Registry(ModelState):
    """Adds and removes the adapters, fusions and heads of a model."""

    def replan(self) -> None:
        """Make the plan of what is active anew, after the registry changed."""
        self._trainable = tuple(name for name in self._trainable if name in self)
        self._choose_fixed_norms()
        self.runtime.plan = plan_of(self, self.runtime.active, self.runtime.head)
        self.runtime.stale = False  # last, since other threads read it first
        show(self)

    @one_at_a_time
    def add(self, name: str, config: Any, *, native: bool = True) -> None:
        """Add a new adapter, frozen and not active; on a model with a head it owns a copy of the head.

        Args:
            name: A name that is free.
            config: An `AdapterConfig`, any configuration of peft, or the name of a method, with options in brackets:
                ``"pfeiffer"``, ``"pfeiffer[reduction_factor=8]"``.
            native: Make a ``peft.LoraConfig`` a `graftwork.LoRA` where that is the same function; otherwise, and for
                every other configuration of peft, peft's own modules compute it.

        Raises:
            ConfigError: If the name or an option cannot be used.
            NameTakenError: If the name is taken.
            SiteError: If the model has none of the sites that the method needs.

        Example:
            >>> adapters.add("rte", gw.Pfeiffer(reduction_factor=16))
            >>> adapters.add("mnli", "pfeiffer[reduction_factor=8]")
        """
        check_new(name, self, "an adapter")
        if isinstance(config, str):
            config = config_from_text(config)
        elif is_peft(config):
            ours = native_config(config, self.model, self.sites, self.head_paths) if native else None
            config = Peft(peft=config) if ours is None else ours
        if not isinstance(config, AdapterConfig):
            raise ConfigError(f"add({name!r}, {config!r}): this is no configuration; give one, such as gw.Pfeiffer()")
        built = building.build(self.model, self.sites, config)
        head = made_head(self, None, None)  # before anything is put into the model: some heads cannot be copied
        with changing(self):
            self.inject(name, config)
            self.register(name, config, *built, head)

    @whole
    def inject(self, name: str, config: AdapterConfig) -> nn.Module | None:
        """Have peft put its part of an adapter into the model; returns peft's weights, ``None`` if no part is peft's.

        `register` is called next, or `discard`, which removes it again. If peft refuses, the model stays unchanged.
        """
        self.peft_adapters.add(name, config.injected, self.head_paths)
        return self.peft_adapters.weights(name)

    @whole
    def discard(self, name: str) -> None:
        """Remove what `inject` put into the model."""
        self.peft_adapters.drop(name)
        drop_empty(self.model)

    @whole
    def register(
        self,
        name: str,
        config: AdapterConfig,
        modules: Mapping[int, AdapterModule],
        norms: Mapping[int, nn.Module],
        head: OwnHead | None = None,
    ) -> None:
        """Add an adapter whose modules and norms exist already, by their place in the map; what they share is found in them.

        Without a head it gets a copy of the model's own.
        """
        for member in config.members:
            check_new(full_name(name, member), self, "a member")
        rehome(self.model, self.homes)  # modules that were wrapped since the last forward pass
        for index, module in modules.items():
            self._site(index).adapters.put(name, module.requires_grad_(False))
        self._keep_shared(name, modules, norms)
        put_norms(self.model, self.sites, name, norms)
        statistics = [m for module in (*modules.values(), *norms.values()) for m in with_statistics(module)]
        if statistics:
            self._statistics.put(name, statistics)
        self._adapters.put(name, config)
        self._put_head(name, made_head(self, head, None))
        self.replan()

    @whole
    def add_member(self, name: str, member: str, like: str | None = None) -> str:
        """Add a new, frozen member to an adapter that serves several tasks; the others stay as they are, bit for bit.

        ``train_only("hyper:new")`` then trains the weights of the new member alone, with its head. The head is a copy of that
        of ``like``, or of the adapter, if there is one.

        Args:
            name: The adapter.
            member: The new member's own name.
            like: A member whose weights are copied; by default they are initialised anew.

        Returns:
            The member's name in compositions, ``"hyper:new"``.

        Raises:
            NameTakenError: If the name is taken.
            UnknownNameError: If there is no such adapter or member.
            ConfigError: If the method has no members, or the name cannot be one.
            CompositionError: If the adapter's own name, which would then mean two, is active or in a fusion's pool.
        """
        config, head = members.added_member(self, name, member, like)
        self._adapters.put(name, config)
        full = full_name(name, member)
        self._put_head(full, head_copy(self, head))
        self.replan()
        return full

    @one_at_a_time
    def add_fusion(self, block: Learned, config: LearnedConfig | None = None, *, head_from: str | None = None) -> None:
        """Add the weights of a fusion or another trainable block, at every site of an adapter in its pool.

        Args:
            block: The fusion's pool, and its name.
            config: `FusionConfig` for a `Fuse`, and so on; by default as published.
            head_from: The adapter whose head is copied for the fusion; by default the model's own head is.

        Raises:
            CompositionError: If an adapter of the pool cannot be weighed, or the adapters share no site.
            UnknownNameError: If there is no adapter of a name.
            ConfigError: If the configuration is of another block, or an option does not fit.
            NameTakenError: If the name is taken.

        Example:
            >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
        """
        if not isinstance(block, Learned):
            raise CompositionError(
                f"add_fusion takes a Fuse block, such as gw.Fuse('a', 'b', name='ab'), not {block!r}"
            )
        self.peft_adapters.active_in(block)
        config = config_for(block, config)
        self.register_fusion(block, config, new_fusion(self, block, config), head_from=head_from)

    @whole
    def register_fusion(
        self,
        block: Learned,
        config: LearnedConfig,
        modules: Mapping[int, LearnedModule],
        head: OwnHead | None = None,
        head_from: str | None = None,
    ) -> None:
        """Add a fusion whose modules exist already, by their place in the map; nothing is added if it cannot be computed."""
        for index, module in modules.items():
            self._site(index).fusions.put(block.name, module.requires_grad_(False))
        self._keep_shared(block.name, modules)
        self._fusions.put(block.name, (block, config))
        try:
            plan_of(self, block, None)  # refuses what cannot be computed
            self._put_head(block.name, made_head(self, head, head_from))
        except Exception:
            self._forget(block.name)
            raise

    @whole
    def add_head(self, name: str, head: HeadConfig | int | Sequence[str] | Mapping[str, nn.Module] | nn.Module) -> None:
        """Add a head for an adapter or a fusion; on a `ModelWithHeads` model also one by itself.

        Args:
            name: The adapter or fusion; on a `ModelWithHeads` model a new name adds a head by itself.
            head: On a `ModelWithHeads` model one of `graftwork.heads`. On an AutoModelForX what replaces the copy of its own
                head: a number of labels, their names, or the module (several by path, if its head is several modules).

        Raises:
            UnknownNameError: If there is no adapter or fusion of that name.
            ConfigError: If the head does not fit the model.

        Example:
            >>> adapters.add_head("a", ["no", "yes", "unclear"])
        """
        if isinstance(self.model, ModelWithHeads) or isinstance(head, HeadConfig):
            made = make_named_head(self, head)
            if name not in self:
                check_new(name, (), "a head")
                self._refuse_stranger(name)
        else:
            self.require(name)
            made = OwnHead(*building.make_head(self.model, self.head_paths, head, self.own_labels))
        self.register_head(name, made)

    @whole
    def register_head(self, name: str, head: OwnHead) -> None:
        """Add a head whose modules exist already."""
        self._put_head(name, head)
        self.replan()

    @whole
    def remove(self, what: str | Learned) -> None:
        """Remove an adapter or a fusion with its head and its norms, a head by itself, or one member of an adapter.

        Raises:
            UnknownNameError: If there is nothing of that name.
            CompositionError: If it is active, or in the pool of a fusion.

        Example:
            >>> adapters.remove("b")
        """
        name = what.name if isinstance(what, Learned) else what
        self.require(name)
        if self.kind_of(name) == "member":
            config = members.dropped_member(self, name)
            self._adapters.put(self.owner_of(name), config)
            self._forget_head(name)
        else:
            for fusion, pool in self.fusions.items():
                if fusion != name and name in map(self.owner_of, names_in(pool)):
                    raise CompositionError(f"{name!r} is in the pool of the fusion {fusion!r}; remove that first")
            if name in self.names_in_use:
                raise CompositionError(f"{name!r} is active; set `active = None` or another composition first")
            self._forget(name)
        self.replan()

    def _site(self, index: int) -> SiteAdapters:
        """The module that keeps the adapters of a site, made if it is not there yet."""
        if index not in self.site_modules:
            made = SiteAdapters().train(self.model.training)
            site = self.sites.places[index]
            holder_at(self.model, site.block).sites[str(index)] = made
            if site.kind == "projection":
                wire_projection(self.model, self.sites, index, self.runtime, self.homes)
            self.site_modules = {**self.site_modules, index: made}
        return self.site_modules[index]

    def _put_head(self, name: str, head: OwnHead | None) -> None:
        if head is None:
            return
        kept = nn.ModuleDict({path.replace(".", "/"): module for path, module in head.modules.items()})
        holder_at(self.model, "").heads.put(name, kept.requires_grad_(False).train(self.model.training))
        self.head_labels.put(name, head.labels)
        self._head_configs.drop(name)
        if head.config is not None:
            self._head_configs.put(name, head.config)

    def _keep_shared(self, name: str, *modules: Mapping[int, nn.Module]) -> None:
        shared = building.shared_by(*modules)
        if shared is not None:
            holder_at(self.model, "").shared.put(name, shared.requires_grad_(False))

    def _forget(self, name: str) -> None:
        for here in self.site_modules.values():
            here.adapters.drop(name)
            here.fusions.drop(name)
        self._leave_projections()
        drop_norms(self.model, self.sites, name)
        self.peft_adapters.drop(name)
        root = holder_or_none(self.model, "")
        if root is not None:
            root.shared.drop(name)
        for owner in (name, *(self.members_of(name) if name in self._adapters else ())):
            self._forget_head(owner)
        for table in (self._adapters, self._fusions, self._statistics):
            table.drop(name)

    def _leave_projections(self) -> None:
        """Take the hooks off projections that have no adapter any more."""
        sites = self.sites.places
        empty = [n for n, here in self.site_modules.items() if sites[n].kind == "projection" and not here.adapters]
        if empty:
            rehome(self.model, self.homes)
        for index in empty:
            unwire_projection(self.model, sites[index], index, self.homes)
            del holder_at(self.model, sites[index].block).sites[str(index)]
        self.site_modules = {n: here for n, here in self.site_modules.items() if n not in empty}

    def _forget_head(self, name: str) -> None:
        if name in self.head_labels:
            holder_at(self.model, "").heads.drop(name)
        self.head_labels.drop(name)
        self._head_configs.drop(name)
