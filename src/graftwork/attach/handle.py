"""The handle of an attached model: its registry of adapters and fusions, and what is active and what learns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach import building, learning, wiring
from graftwork.attach.checkpointing import Bound, unbind_checkpointing
from graftwork.attach.heads import Labels, head_name, head_paths, labelled
from graftwork.attach.holder import Holder, SiteAdapters
from graftwork.attach.names import check_new, unknown
from graftwork.attach.plan import Plan, make_plan
from graftwork.attach.runtime import Runtime
from graftwork.attach.summary import Summary, summarize
from graftwork.compose import Block, Composition, Fuse, FusionConfig, FusionModule, fusions_in, names_in
from graftwork.errors import AttachError, CompositionError, ConfigError
from graftwork.methods import AdapterConfig, AdapterModule
from graftwork.sites import SiteMap

HANDLE = "_graftwork_handle"
DEFAULT_HEAD = "the composition's own"


class Handle:
    """All adapters of one model; made by `graftwork.attach`, found again by `graftwork.of`.

    Attributes:
        model: The user's own model, its classes and its forward untouched.
        sites: Where adapters can stand in it.
    """

    def __init__(self, model: nn.Module, sites: SiteMap) -> None:
        self.model = model
        self.sites = sites
        self.runtime = Runtime()
        self.runtime.handle = self
        self._adapters: dict[str, AdapterConfig] = {}
        self._fusions: dict[str, tuple[Fuse, FusionConfig]] = {}
        self._labels: dict[str, Labels] = {}
        self._learning: tuple[str, ...] = ()
        self._flags = [(p, p.requires_grad) for p in model.parameters()]
        self._still: dict[int, nn.Module] = {}
        self._own_labels = Labels.of(getattr(model, "config", None))
        self.head_paths = head_paths(model)
        self._homes = wiring.wire(model, sites, self.head_paths, self.runtime)
        self._site_modules: dict[int, SiteAdapters] = {}
        self._batch_norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._base_mode = "frozen"
        model.__dict__[HANDLE] = self
        for p in model.parameters():
            p.requires_grad_(False)

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters' names."""
        return tuple(self._adapters)

    @property
    def fusions(self) -> dict[str, Fuse]:
        """The fusions: name to pool."""
        return {name: pool for name, (pool, _) in self._fusions.items()}

    def config(self, name: str) -> AdapterConfig | FusionConfig:
        """The configuration of an adapter or a fusion.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        self._require(name)
        return self._adapters[name] if name in self._adapters else self._fusions[name][1]

    def modules_of(self, name: str) -> dict[str, AdapterModule | FusionModule]:
        """The modules of an adapter or a fusion: site key to module."""
        self._require(name)
        keys = [self.sites.key_of(site) for site in self.sites]
        found: dict[str, AdapterModule | FusionModule] = {}
        for index, here in self._site_modules.items():
            module = here.adapter(name) if name in self._adapters else here.fusion(name)
            if module is not None:
                found[keys[index]] = module
        return found

    def norms_of(self, name: str) -> dict[str, nn.Module]:
        """The norms that an adapter owns: path in the base to module."""
        return building.own_norms(self.model, self.sites, name)

    def head_of(self, name: str) -> dict[str, nn.Module]:
        """The modules of the head of an adapter or a fusion: path to module; empty where it has none."""
        found = self._root_holder().heads.find(name) if name in self._labels else None
        return {} if found is None else {path.replace("/", "."): m for path, m in found.named_children()}

    def labels(self, name: str) -> Labels | None:
        """What the head of an adapter or a fusion predicts, ``None`` where it has no head of its own."""
        return self._labels.get(name)

    def summary(self) -> Summary:
        """A table of all adapters and fusions: weights, share of the base, what is active, what learns."""
        return summarize(self)

    # -- adding and removing ---------------------------------------------------------------------------------------

    def add(self, name: str, config: AdapterConfig) -> None:
        """Add an adapter, untrained and not active; on a model with a head it owns a copy of it.

        Raises:
            ConfigError: If the name or an option cannot be used.
            UnknownNameError: If the name is taken.
            SiteError: If the model has no site that the method stands at.
        """
        check_new(name, (*self._adapters, *self._fusions), "an adapter")
        modules = building.build(self.model, self.sites, config)
        norms = building.copied_norms(self.model, self.sites, config.torch_dtype) if config.norms == "own" else {}
        self.adopt(name, config, modules, norms)

    def adopt(
        self,
        name: str,
        config: AdapterConfig,
        modules: Mapping[int, AdapterModule],
        norms: Mapping[int, nn.Module],
        head: tuple[Mapping[str, nn.Module], Labels] | None = None,
    ) -> None:
        """Add an adapter whose modules are made already; for reading files, which check everything before.

        Args:
            name: A name that is free.
            config: What the modules were made by.
            modules: By the place of their site in the map.
            norms: The norms it owns, by their place in the map.
            head: Its head's modules by path, and their labels; by default a copy of the model's own.
        """
        for index, module in modules.items():
            self._site(index).adapters.put(name, module)
        building.put_norms(self.model, self.sites, name, norms)
        self._adapters[name] = config
        self._give_head(name, head, None)
        self.replan()

    def add_fusion(self, block: Fuse, config: FusionConfig | None = None, *, head_from: str | None = None) -> None:
        """Add the weights of a fusion, for every site where one of its pool stands.

        Args:
            block: The pool; its name is the fusion's.
            config: How the fusion is made.
            head_from: Name of an adapter whose head the fusion's head starts as; by default the model's own.

        Raises:
            CompositionError: If the pool names what is not there, or its adapters share no site.
            UnknownNameError: If the name is taken.
        """
        if not isinstance(block, Fuse):
            raise CompositionError(f"add_fusion takes a Fuse block, such as gw.Fuse('a', 'b', name='ab'), not {block!r}")
        config = config or FusionConfig()
        check_new(block.name, (*self._adapters, *self._fusions), "a fusion")
        for member in names_in(block):
            self._require_adapter(member)
        inner = [f.name for f in fusions_in(block)[1:]]
        for other in inner:
            self._require(other)
        present = [n for n, here in self._site_modules.items() if any(here.adapter(m) for m in names_in(block))]
        modules = building.build_fusion(self.model, self.sites, present, config)
        self.adopt_fusion(block, config, modules, head_from=head_from)

    def adopt_fusion(
        self,
        block: Fuse,
        config: FusionConfig,
        modules: Mapping[int, FusionModule],
        head: tuple[Mapping[str, nn.Module], Labels] | None = None,
        head_from: str | None = None,
    ) -> None:
        """Add a fusion whose modules are made already; for reading files, which check everything before.

        Raises:
            CompositionError: If its adapters share no site; nothing is added then.
            UnknownNameError: If ``head_from`` has no head.
        """
        for index, module in modules.items():
            self._site(index).fusions.put(block.name, module)
        self._fusions[block.name] = (block, config)
        try:
            self._plan(block, head=None)
            self._give_head(block.name, head, head_from)
        except Exception:
            self._forget(block.name)
            raise

    def add_head(self, name: str, head: int | Sequence[str] | Mapping[str, nn.Module] | nn.Module) -> None:
        """Give an adapter or a fusion another head than a copy of the model's own.

        Args:
            name: The adapter or fusion.
            head: A number of labels, the labels' names, or the module itself (by path where the head is several).

        Raises:
            UnknownNameError: If there is no adapter or fusion of that name.
            ConfigError: If the model has no head, or its head does not fit.
        """
        self._require(name)
        modules, labels = building.make_head(self.model, self.head_paths, head, self._own_labels)
        self._put_head(name, modules, labels)
        self.replan()

    def remove(self, what: str | Fuse) -> None:
        """Remove an adapter or a fusion, its head and its norms too.

        Raises:
            UnknownNameError: If there is none of that name.
            CompositionError: If it is active, or a fusion needs it.
        """
        name = what.name if isinstance(what, Fuse) else what
        self._require(name)
        users = [f for f, (pool, _) in self._fusions.items() if f != name and name in names_in(pool)]
        if users:
            raise CompositionError(f"{name!r} is in the pool of the fusion {users[0]!r}; remove that first")
        if name in _all_names(self.runtime.active):
            raise CompositionError(f"{name!r} is active; set `active = None` or another composition first")
        self._forget(name)
        self.replan()

    # -- what is active --------------------------------------------------------------------------------------------

    @property
    def active(self) -> Composition:
        """The composition that every forward pass computes; ``None`` is the plain model."""
        return self.runtime.active

    @active.setter
    def active(self, composition: Composition) -> None:
        composition = self._named(composition)
        self.runtime.plan = self._plan(composition)
        self.runtime.active = composition
        self.runtime.stale = False

    @contextlib.contextmanager
    def using(self, composition: Composition, *, head: str | None = DEFAULT_HEAD) -> Iterator[None]:
        """Compute another composition inside a ``with``, in this thread alone; nests, and restores.

        Args:
            composition: A name, a block, or ``None`` for the plain model.
            head: Name of the head to use; ``None`` for the model's own. By default the composition's own.

        Raises:
            UnknownNameError: If something in it is not there.
            CompositionError: If it cannot be computed.
        """
        plan = self._plan(self._named(composition), head=head)
        local = self.runtime.local
        before = self.runtime.using
        local.using = (*before, plan)
        try:
            yield
        finally:
            local.using = before

    def bind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function bound to the forward pass under way, for gradient checkpointing of the user's own.

        Raises:
            AttachError: If no forward pass of the model is under way.
        """
        self.runtime.unbound = False
        frame = self.runtime.frame
        if frame is None:
            if self.runtime.current_plan() is None:
                return function
            raise AttachError("bind(fn) is called inside the model's forward, where the checkpointed function is run")
        return Bound(function, self.runtime, frame)

    def fold(self) -> int:
        """Fold the active fusions' weights and keep them so, for compiled models; returns how many sites were folded.

        Without compiling nothing needs to be done: at inference weights are folded by themselves, and remade when they
        change. What is folded here stays as it is until something else is activated.
        """
        plan = self.runtime.current_plan()
        nodes = [] if plan is None else [n for n in plan.attentions() if n.folded is not None and n.folded.bank.stackable]
        for node in nodes:
            node.folded.pin()  # type: ignore[union-attr]
        return len(nodes)

    def fusion_weights(self, **inputs: Any) -> dict[str, dict[str, Tensor]]:
        """The attention of the active fusions for one batch: fusion → site → ``(batch, positions, adapters)``."""
        local = self.runtime.local
        before, local.record = self.runtime.record, {}
        try:
            with torch.no_grad():
                self.model(**inputs)
            return dict(local.record)
        finally:
            local.record = before

    # -- what learns -----------------------------------------------------------------------------------------------

    def train_only(
        self, what: Composition | Sequence[str], *, active: Any = DEFAULT_HEAD, base: str = "frozen"
    ) -> None:
        """Choose what learns, and activate it.

        Args:
            what: An adapter or a fusion (by name or as its block), several, or ``None`` for the model's own head alone.
                Their heads learn with them. Everything else is fixed, its dropout off.
            active: What is active while it learns; by default ``what`` itself.
            base: ``"frozen"``, ``"norms"`` (the base's norms learn), or ``"trained"`` (the whole base does).

        Raises:
            UnknownNameError: If something is not there.
            ConfigError: If ``base`` is none of the three, or several learn and nothing says what is active.
        """
        if base not in learning.BASES:
            raise ConfigError(f"base is {base!r}; it must be one of {', '.join(learning.BASES)}")
        learners, default = learning.learners(self, what)
        if isinstance(active, str) and active == DEFAULT_HEAD:
            if not default:
                raise ConfigError(f"train_only({what!r}): give active= the composition that is active while these learn")
            active = default[0]
        self.active = active
        learning.set_learning(self, learners, base)
        self._learning, self._base_mode = learners, base

    @property
    def learning(self) -> tuple[str, ...]:
        """The names of the adapters and fusions that learn."""
        return self._learning

    def auxiliary_loss(self) -> Tensor:
        """The extra losses of what learns (a fusion's pull to the identity), a scalar.

        Added to ``outputs.loss`` in training where the model computes one; with a loss of your own add it yourself.
        """
        extra = self.auxiliary_loss_or_none()
        return torch.zeros(()) if extra is None else extra

    def auxiliary_loss_or_none(self) -> Tensor | None:
        """The same, ``None`` where nothing that learns has one."""
        pulls = [
            module.pull()
            for name in self._learning
            if name in self._fusions and self._fusions[name][1].regularization and self._fusions[name][1].value
            for module in self.modules_of(name).values()
            if isinstance(module, FusionModule)
        ]
        return torch.stack([p.to(pulls[0].device) for p in pulls]).sum() if pulls else None

    def advance(self) -> None:
        """Say that the optimiser made a step: a fusion's temperature falls by it and by nothing else."""
        for name in self._learning:
            for module in self.modules_of(name).values():
                if isinstance(module, FusionModule):
                    module.advance()

    # -- the end ---------------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Take everything off the model: it is as it was before `attach`, bit for bit."""
        self.runtime.plan, self.runtime.active, self.runtime.handle = None, None, None
        unbind_checkpointing(self)
        wiring.unwire(self.model)
        for module in self._still.values():
            module.train(self.model.training)
        for p, flag in self._flags:
            p.requires_grad_(flag)
        self.model.__dict__.pop(HANDLE, None)

    # -- for the other parts of the library ------------------------------------------------------------------------

    def before_forward(self, module: nn.Module) -> None:
        """Work at the start of a forward pass: hooks follow wrapped modules, frozen batch norms stand still."""
        if torch.compiler.is_compiling():
            return
        if any(parent._modules.get(name) is not home for parent, name, home in self._homes):
            wiring.rehome(self._homes)
        if module.training and self._base_mode != "trained":
            for norm in self._batch_norms:
                if norm.training:
                    norm.training = False
                    self._still[id(norm)] = norm

    def checkpointed_modules(self) -> list[nn.Module]:
        """The modules that transformers may checkpoint."""
        return [m for m in self.model.modules() if "_gradient_checkpointing_func" in m.__dict__]

    @property
    def labels_differ(self) -> bool:
        """Whether some heads predict other labels than the model's own."""
        return any(labels != self._own_labels for labels in self._labels.values())

    def learned_problem_type(self, name: str | None, problem_type: str | None) -> None:
        """Remember what a model made of a head's first labels."""
        labels = None if name is None else self._labels.get(name)
        if name is not None and labels is not None and labels.problem_type is None and problem_type is not None:
            self._labels[name] = Labels(labels.names, problem_type)

    def replan(self) -> None:
        """Make the default plan anew, after the registry changed."""
        self.runtime.plan = self._plan(self.runtime.active)
        self.runtime.stale = False  # at last: other threads look at it first

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.runtime.handle = self

    def __repr__(self) -> str:
        return f"<{len(self.names)} adapters on {type(self.model).__name__}, active: {self.active!r}>"

    def _named(self, composition: Composition) -> Composition:
        if composition is not None and not isinstance(composition, (str, Block)):
            raise CompositionError(f"{composition!r} is no composition; give an adapter's name, None, or a block")
        if isinstance(composition, str) and composition in self._fusions:
            return self._fusions[composition][0]
        return composition

    def _plan(self, composition: Composition, head: str | None = DEFAULT_HEAD) -> Plan | None:
        if composition is None and head in (None, DEFAULT_HEAD):
            return None
        for name in names_in(composition):
            self._require_adapter(name)
        for fuse in fusions_in(composition):
            if fuse.name not in self._fusions:
                raise unknown(fuse.name, self._fusions, "fusion")
        norms, modules = building.norm_finders(self.model, self.sites)
        plan = make_plan(composition, self.sites, self._site_modules, norms, modules)
        chosen = head_name(composition, self._labels.__contains__) if head == DEFAULT_HEAD else head
        if isinstance(chosen, str) and chosen not in self._labels:
            raise unknown(chosen, self._labels, "head")
        known: dict[str | None, Labels] = {None: self._own_labels, **self._labels}
        plan.labels = labelled(chosen, known)
        for path in self.head_paths:
            program = building.head_program(chosen, path, self.head_of)
            if program is not None:
                plan.heads[path] = program
        return plan

    def _site(self, index: int) -> SiteAdapters:
        if index not in self._site_modules:
            self._site_modules[index] = building.site_adapters(self.model, list(self.sites)[index], index)
        return self._site_modules[index]

    def _root_holder(self) -> Holder:
        return building.holder_at(self.model, "")

    def _give_head(
        self, name: str, head: tuple[Mapping[str, nn.Module], Labels] | None, like: str | None
    ) -> None:
        """The head given, else a copy of another's, else of the model's own where it has one."""
        if head is None and like is not None and like not in self._labels:
            raise unknown(like, self._labels, "head")
        if head is not None:
            self._put_head(name, *head)
        elif like is not None:
            self._put_head(name, building.copy_head(self.model, self.head_of(like)), self._labels[like])
        elif self.head_paths:
            own = {p: self.model.get_submodule(p) for p in self.head_paths}
            self._put_head(name, building.copy_head(self.model, own), self._own_labels)

    def _put_head(self, name: str, modules: Mapping[str, nn.Module], labels: Labels) -> None:
        self._labels[name] = labels
        building.put_head(self._root_holder(), name, modules, self.model.training)

    def _forget(self, name: str) -> None:
        for here in self._site_modules.values():
            here.adapters.drop(name)
            here.fusions.drop(name)
        building.drop_norms(self.model, name)
        if name in self._labels:
            self._root_holder().heads.drop(name)
        for known in (self._adapters, self._fusions, self._labels):
            known.pop(name, None)  # type: ignore[attr-defined]
        self._learning = tuple(n for n in self._learning if n != name)

    def _require(self, name: str) -> None:
        if name not in self._adapters and name not in self._fusions:
            raise unknown(name, (*self._adapters, *self._fusions), "adapter or fusion")

    def _require_adapter(self, name: str) -> None:
        if name not in self._adapters:
            raise unknown(name, self._adapters, "adapter")


def _all_names(composition: Composition) -> set[str]:
    return set(names_in(composition)) | {f.name for f in fusions_in(composition)}
