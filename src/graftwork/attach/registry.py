"""The registry of a model: how adapters, fusions and heads come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from graftwork.attach import building, members
from graftwork.attach.changes import changing, one_at_a_time, whole
from graftwork.attach.collapsing import Collapsed, collapse
from graftwork.attach.merging import Merged, merge
from graftwork.attach.named_heads import OwnHead, made_head, make_named_head
from graftwork.attach.norms import drop_norms, put_norms, with_statistics
from graftwork.attach.planning import new_fusion
from graftwork.attach.state import ModelState
from graftwork.attach.wiring import unwire_projection, wire_projection
from graftwork.compose import Composition, Learned, LearnedConfig, LearnedModule, config_for, fusions_in, names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.heads import HeadConfig
from graftwork.methods import AdapterConfig, AdapterModule, Peft, config_from_text, is_peft
from graftwork.peft_bridge.native import native_config
from graftwork.weights.holder import SiteAdapters, drop_empty, holder_or_none
from graftwork.weights.names import check_new, full_name

T = TypeVar("T")


class Registry(ModelState):
    """What a model carries, and how it comes and goes."""

    def replan(self) -> None:
        """Make the plan of what is active anew, after the registry changed."""
        raise NotImplementedError

    def check(self, composition: Composition) -> None:
        """Refuse a composition that cannot be computed."""
        raise NotImplementedError

    @one_at_a_time
    def add(self, name: str, config: Any, *, native: bool = True) -> None:
        """Add an adapter, untrained, fixed and not active; on a model with a head it owns a copy of it.

        Args:
            name: A name that is free.
            config: An `AdapterConfig`, any configuration of peft, or the name of a method, with options in brackets:
                ``"pfeiffer"``, ``"pfeiffer[reduction_factor=8]"``.
            native: Make a ``peft.LoraConfig`` a `graftwork.LoRA` where that is the same function; otherwise, and for
                every other configuration of peft, peft's own modules compute it.

        Raises:
            ConfigError: If the name or an option cannot be used.
            NameTakenError: If the name is taken.
            SiteError: If the model has no site that the method stands at.

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
            raise ConfigError(f"add({name!r}, {config!r}): that is no configuration; give one, such as gw.Pfeiffer()")
        built = building.build(self.model, self.sites, config)
        # A model whose head cannot be copied is refused before anything is put into it.
        head = made_head(self, None, None)
        with changing(self):
            self.inject(name, config)
            self.register(name, config, *built, head)

    @whole
    def inject(self, name: str, config: AdapterConfig) -> nn.Module | None:
        """Have another library put what is its own of an adapter into the model.

        `register` then takes it up, or `discard` takes it out.

        Returns:
            Its weights, ``None`` where all of the adapter is ours.

        Raises:
            ConfigError: If it refuses the configuration, or what it does cannot be taken back; nothing is there then.
            AttachError: If it works on the model already, without graftwork.
        """
        self.peft_adapters.add(name, config.injected, self.head_paths)
        return self.peft_adapters.weights(name)

    @whole
    def discard(self, name: str) -> None:
        """Take out what `inject` put in and nobody adopted."""
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
        """Add an adapter whose modules are made already; for reading files, which check everything before.

        Args:
            name: A name that is free.
            config: What the modules were made by.
            modules: By the place of their site in the map; what they share is found in them.
            norms: The norms it owns, by their place in the map.
            head: Its head's modules by path, and their labels; by default a copy of the model's own.
        """
        for member in config.members:
            check_new(full_name(name, member), self, "a member")
        for index, module in modules.items():
            self._site(index).adapters.put(name, fixed(module))
        self._keep_shared(name, modules, norms)
        put_norms(self.model, self.sites, name, {index: fixed(norm) for index, norm in norms.items()})
        statistics = [m for module in (*modules.values(), *norms.values()) for m in with_statistics(module)]
        if statistics:
            self._statistics = {**self._statistics, name: statistics}
        self._adapters = {**self._adapters, name: config}
        self._give_head(name, head, None)
        self.replan()

    @one_at_a_time
    def merge(
        self,
        name: str,
        of: Mapping[str, float] | Sequence[str],
        *,
        start: str | None = None,
        head_from: str | None = None,
    ) -> Merged:
        """Add an adapter whose weights are a weighted sum of those of adapters of one configuration.

        Its norms and what its sites share are summed up too; it is an adapter like any other, and costs what one costs.

        Args:
            name: A name that is free.
            of: The adapters' names, for their mean; or a weight for each. Weights that do not add up to one are task
                arithmetic: ``{"a": 1.0, "b": -1.0}`` is what a has learned less what b has.
            start: An adapter that they all began as, so that the weights are those of what was learned since. By default
                that is zero, and for norms the base's: a negative weight then turns about the starting values too.
            head_from: The adapter whose head is copied. By default the heads are summed up as well, where their labels
                agree and the weights (with that of the start) add up to one.

        Returns:
            What it was made of, and how alike that is; printable.

        Raises:
            ConfigError: If the adapters, or their heads, are not of one configuration, labels and size; or a weight is no
                number.
            UnknownNameError: If an adapter is not there.
            NameTakenError: If the name is taken.

        Example:
            >>> made = adapters.merge("mean", ["a", "b"])
            >>> adapters.active = "mean"
        """
        made, merged = merge(self, name, of, start, head_from)
        self.register(name, *made)
        return merged

    @one_at_a_time
    def collapse(
        self, composition: Composition, name: str, *, rank: int | None = None, head_from: str | None = None
    ) -> Collapsed:
        """Add one adapter that computes what a composition with constant weights does: names, `Stack`, `Average`, nested.

        Bottlenecks of one non-linearity become one as wide as all together, exactly; so do LoRAs, or one of a given rank. What
        came of LoRAs can be saved for peft (``save(name, folder, format="peft")``).

        Args:
            composition: The composition.
            name: A name that is free.
            rank: For LoRAs the rank of the new one, the nearest by singular values; by default the sum of theirs.
            head_from: The adapter whose head is copied. By default that of the only adapter, else the model's own.

        Returns:
            What it was made of, its widths, and the error of the cut; printable.

        Raises:
            CompositionError: If a weight depends on the input or the row, or one adapter reads what another adds.
            ConfigError: If the adapters are of several kinds, or are no two products.
            NameTakenError: If the name is taken.

        Example:
            >>> adapters.collapse(gw.Average("a", "b"), "both").rank["encoder.layer.0.feed_forward"]
            4
        """
        made, collapsed = collapse(self, composition, name, rank, head_from)
        self.register(name, *made)
        return collapsed

    @whole
    def add_member(self, name: str, member: str, like: str | None = None) -> str:
        """Give an adapter that serves several tasks one more, untrained and fixed; what is there stays as it is, to the bit.

        ``train_only("hyper:new")`` then trains what is the new one's alone, its head included, and nothing else. Its head is
        a copy of the other's, or of its adapter's, where there is one.

        Args:
            name: The adapter.
            member: The new member's own name.
            like: A member that it starts as; by default it starts anew.

        Returns:
            How compositions name it, ``"hyper:new"``.

        Raises:
            NameTakenError: If the name is taken.
            UnknownNameError: If there is no such adapter or member.
            ConfigError: If the method has no members, or the name cannot be one.
            CompositionError: If the adapter's own name, which would then mean two, is active or in a fusion's pool.
        """
        config, head = members.added_member(self, name, member, like)
        self._adapters = {**self._adapters, name: config}
        full = full_name(name, member)
        if head is not None:
            self._give_head(full, None, head)
        self.replan()
        return full

    @one_at_a_time
    def export(self, what: str, name: str) -> None:
        """Write out an adapter that is made of other weights, or one member of it, as a plain adapter beside it.

        It computes the same, with copies of the norms and the head.

        Args:
            what: The adapter, or a member such as ``"hyper:mnli"``.
            name: The new adapter's name.

        Raises:
            UnknownNameError: If there is none of that name.
            NameTakenError: If the new one is taken.
            ConfigError: If the method has no plain form.
        """
        self.register(name, *members.exported(self, what, name))

    @one_at_a_time
    def add_fusion(self, block: Learned, config: LearnedConfig | None = None, *, head_from: str | None = None) -> None:
        """Add the weights of a fusion or another block that learns, for every site where one of its pool stands.

        Args:
            block: The pool; its name is the fusion's.
            config: How the fusion is made: `FusionConfig` for a `Fuse`, and so on; by default as published.
            head_from: Name of an adapter whose head the fusion's head starts as; by default the model's own.

        Raises:
            CompositionError: If the pool names what is not there, or its adapters share no site.
            ConfigError: If the configuration is that of another block, or an option does not fit.
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
        modules = new_fusion(self, block, config)
        self.register_fusion(block, config, modules, head_from=head_from)

    @whole
    def register_fusion(
        self,
        block: Learned,
        config: LearnedConfig,
        modules: Mapping[int, LearnedModule],
        head: OwnHead | None = None,
        head_from: str | None = None,
    ) -> None:
        """Add a fusion whose modules are made already; for reading files, which check everything before.

        Raises:
            CompositionError: If its adapters share no site; nothing is added then.
            UnknownNameError: If ``head_from`` has no head.
        """
        for index, module in modules.items():
            self._site(index).fusions.put(block.name, fixed(module))
        self._keep_shared(block.name, modules)
        self._fusions = {**self._fusions, block.name: (block, config)}
        try:
            self.check(block)
            self._give_head(block.name, head, head_from)
        except Exception:
            self._forget(block.name)
            raise

    @whole
    def add_head(self, name: str, head: HeadConfig | int | Sequence[str] | Mapping[str, nn.Module] | nn.Module) -> None:
        """Give an adapter or a fusion a head; on a `ModelWithHeads` model also one by itself, under a name of its own.

        Args:
            name: The adapter or fusion; on a `ModelWithHeads` model a new name makes a head by itself.
            head: On a `ModelWithHeads` model one of `graftwork.heads`. On an AutoModelForX, in the place of the copy of its own
                head: a number of labels, the labels' names, or the module itself (by path where the head is several).

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
        self._put_head(name, made)
        self.replan()

    @whole
    def register_head(self, name: str, head: OwnHead) -> None:
        """Add a head by itself whose modules are made already; for reading files, which check everything before."""
        self._put_head(name, head)
        self.replan()

    @whole
    def remove(self, what: str | Learned) -> None:
        """Remove an adapter or a fusion, its head and its norms too; or a head by itself, or one member of an adapter.

        Raises:
            UnknownNameError: If there is none of that name.
            CompositionError: If it is active, or a fusion needs it.

        Example:
            >>> adapters.remove("b")
        """
        name = what.name if isinstance(what, Learned) else what
        self.require(name)
        if self.kind_of(name) == "member":
            config = members.dropped_member(self, name)
            self._adapters = {**self._adapters, self.owner_of(name): config}
            self._forget_head(name)
            self.replan()
            return
        users = [
            f for f, (pool, _) in self._fusions.items() if f != name and name in map(self.owner_of, names_in(pool))
        ]
        if users:
            raise CompositionError(f"{name!r} is in the pool of the fusion {users[0]!r}; remove that first")
        if name in map(self.owner_of, (*_all_names(self.runtime.active), *self.active_heads)):
            raise CompositionError(f"{name!r} is active; set `active = None` or another composition first")
        self._forget(name)
        self.replan()

    def _site(self, index: int) -> SiteAdapters:
        if index not in self.site_modules:
            site = self.sites.places[index]
            made = building.site_adapters(self.model, site, index)
            if site.kind == "projection":
                wire_projection(self.model, site, index, self.runtime, self.homes)
            self.site_modules = {**self.site_modules, index: made}
        return self.site_modules[index]

    def _give_head(self, name: str, head: OwnHead | None, like: str | None) -> None:
        """The head given, else a copy of another's, else of the model's own where it has one."""
        made = made_head(self, head, like)
        if made is not None:
            self._put_head(name, made)

    def _put_head(self, name: str, head: OwnHead) -> None:
        for module in head.modules.values():
            fixed(module)
        building.put_head(self._root_holder(), name, head.modules, self.model.training)
        self.head_labels = {**self.head_labels, name: head.labels}
        made = {} if head.config is None else {name: head.config}
        self._head_configs = {**_without(self._head_configs, name), **made}

    def _keep_shared(self, name: str, *modules: Mapping[int, nn.Module]) -> None:
        shared = building.shared_by(*modules)
        if shared is not None:
            self._root_holder().shared.put(name, fixed(shared))

    def _forget(self, name: str) -> None:
        for here in self.site_modules.values():
            here.adapters.drop(name)
            here.fusions.drop(name)
        self._leave_projections()
        drop_norms(self.model, name)
        self.peft_adapters.drop(name)
        root = holder_or_none(self.model, "")
        if root is not None:
            root.shared.drop(name)
        for one in (name, *(self.members_of(name) if name in self._adapters else ())):
            self._forget_head(one)
        self._adapters, self._fusions = _without(self._adapters, name), _without(self._fusions, name)
        self._statistics = _without(self._statistics, name)

    def _leave_projections(self) -> None:
        """Take the hooks off projections at which nothing is any more."""
        sites = self.sites.places
        empty = [n for n, here in self.site_modules.items() if sites[n].kind == "projection" and not here.adapters]
        for index in empty:
            unwire_projection(self.model, sites[index], index, self.homes)
            building.drop_site(self.model, sites[index], index)
        self.site_modules = {n: here for n, here in self.site_modules.items() if n not in empty}

    def _forget_head(self, name: str) -> None:
        if name in self.head_labels:
            self._root_holder().heads.drop(name)
        self.head_labels, self._head_configs = _without(self.head_labels, name), _without(self._head_configs, name)


def fixed(module: nn.Module) -> nn.Module:
    """The module, none of its weights learning: what is new waits for `train_only`."""
    return module.requires_grad_(False)


def _without(table: Mapping[str, T], name: str) -> Mapping[str, T]:
    return {key: value for key, value in table.items() if key != name}


def _all_names(composition: Composition) -> set[str]:
    return set(names_in(composition)) | {f.name for f in fusions_in(composition)}
