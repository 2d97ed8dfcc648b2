"""The adapters, fusions, heads and members of a model, by name, and the modules of each."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from graftwork.attach.changes import Lock
from graftwork.attach.finding_heads import find_heads
from graftwork.attach.model_head import follow_vocabulary
from graftwork.attach.norms import norms_at, with_statistics
from graftwork.attach.tables import CountedTable, Table
from graftwork.compose import Composition, Learned, LearnedConfig, LearnedModule, fusions_in, names_in
from graftwork.errors import CompositionError
from graftwork.forward.heads_in_use import OWN, Labels
from graftwork.forward.plan import Plan
from graftwork.forward.runtime import Runtime
from graftwork.forward.shown_labels import ShownLabels
from graftwork.heads import HeadConfig
from graftwork.methods import AdapterConfig, AdapterModule
from graftwork.peft_bridge import PeftAdapters, together
from graftwork.sites import SiteMap
from graftwork.weights.holder import SiteAdapters, holder_at, holder_or_none
from graftwork.weights.names import full_name, parted, unknown
from graftwork.weights.samples import Sample


@dataclasses.dataclass
class BaseHistory:
    """What is known of a base since it was attached.

    Attributes:
        parameters: The shapes of its parameters then, by name, those of heads too. Names and shapes identify them:
            offloading, sharding and moves replace the tensors.
        buffers: The names of its buffers then; adapters of other libraries add more.
        samples: A few values of each of its tensors where several ranks train, which may shard them; else empty.
        before: A few values of each of its original tensors; ``None`` until some of the base is trainable.
        changed: The names of the tensors that may have changed since.
        kept: The tensors that `load_base` replaced, with `before` and `changed` of that time; ``None`` if it was not asked
            to keep them.
    """

    parameters: dict[str, torch.Size] = dataclasses.field(default_factory=dict)
    buffers: frozenset[str] = frozenset()
    samples: dict[str, Sample] = dataclasses.field(default_factory=dict)
    before: dict[str, Sample] | None = None
    changed: frozenset[str] = frozenset()
    kept: tuple[dict[str, Tensor], dict[str, Sample] | None, frozenset[str]] | None = None


@dataclasses.dataclass(frozen=True)
class InBase:
    """What is merged into a base.

    Attributes:
        composition: The composition.
        originals: What each weight was before, by its module's path.
    """

    composition: Composition
    originals: Mapping[str, Tensor]


class Source(Protocol):
    """Where adapters are loaded from that a composition names and a model has not yet; see `graftwork.checkpoint.catalogue`."""

    def bring(self, names: Iterable[str]) -> None: ...

    def holding(self, names: Iterable[str]) -> contextlib.AbstractContextManager[tuple[str, ...]]: ...

    def note(self, plan: Plan, held: tuple[str, ...]) -> None: ...


class ModelState:
    """The adapters, fusions and heads of a model, by name.

    Attributes:
        model: The user's own model; its classes and its forward are unchanged.
        sites: The sites of the model.
        lock: Held by the thread that adds, removes or activates something.
        runtime: The state that the model's hooks share.
        head_paths: The paths of the modules of the model's own head.
        shown_labels: The labels in the model's configuration.
        own_labels: The labels of the model's own head.
        head_labels: The labels of every other head, by its name.
        site_modules: The adapters and fusions at each site, by the place of the site in the map.
        homes: The modules with hooks, each with its parent and its name there.
        peft_adapters: The adapters whose modules are peft's.
        unclear_heads: Modules and parameters that may be part of a head, and of which adapters own no copy.
        original_flags: The model's own weights, with the ``requires_grad`` that each had when it was attached.
        base_mode: How the base is trained, see `Handle.train_only`.
        base_history: What is known of the base before it was trained.
        in_base: The LoRAs that are merged into the base's weights; ``None`` if there are none.
        source: Where adapters are loaded from that a composition names; ``None`` if all are added by hand.
    """

    in_base: InBase | None = None
    source: Source | None = None

    def __init__(self, model: nn.Module, sites: SiteMap, heads: Sequence[str] | None = None) -> None:
        self.model = model
        self.sites = sites
        self.lock = Lock()
        self.runtime = Runtime()
        self._task_model, self.head_paths, self.unclear_heads = find_heads(model, sites, heads)
        self._adapters: Table[AdapterConfig] = Table()
        self._fusions: Table[tuple[Learned, LearnedConfig]] = Table()
        self.head_labels: CountedTable[Labels] = CountedTable()
        self._head_configs: Table[HeadConfig] = Table()
        self.site_modules: Mapping[int, SiteAdapters] = {}  # replaced and never edited: other threads read it
        self.homes: list[tuple[nn.Module, str, nn.Module]] = []
        self._statistics: Table[list[nn.Module]] = Table()  # the norms of each adapter that keep some
        self.shown_labels = ShownLabels(self.task_model)
        self.own_labels = Labels.of(getattr(self.task_model, "config", None))
        self.peft_adapters = PeftAdapters(model, self.runtime, sites)
        self._trainable: tuple[str, ...] = ()
        self.original_flags = [(p, p.requires_grad) for p in model.parameters()]
        self.base_mode = "frozen"
        self.base_history = BaseHistory()
        self._base_norms = with_statistics(model)
        self._fixed_norms = list(self._base_norms)  # those whose running statistics do not change in training

    @property
    def task_model(self) -> nn.Module:
        """The model that has the head and the labels: the model itself, or the one inside a wrapper."""
        return self.model.get_submodule(self._task_model)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the adapters."""
        return tuple(self._adapters)

    @property
    def fusions(self) -> dict[str, Learned]:
        """The fusions and other trainable blocks, by name, each with its pool."""
        return {name: pool for name, (pool, _) in self._fusions.items()}

    def pool_of(self, name: str) -> Learned | None:
        """The block of a fusion with its pool, ``None`` if there is no fusion of that name."""
        return self._fusions[name][0] if name in self._fusions else None

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all adapters, fusions, and heads by themselves."""
        return (*self._adapters, *self._fusions, *self.lone_heads)

    @property
    def members(self) -> tuple[str, ...]:
        """The members of all adapters, as compositions name them: ``"hyper:mnli"``."""
        return tuple(member for name in self._adapters for member in self.members_of(name))

    def members_of(self, name: str) -> tuple[str, ...]:
        """The members of one adapter, as compositions name them; empty if it has none.

        Raises:
            UnknownNameError: If there is no adapter of that name.
        """
        return tuple(full_name(name, member) for member in self.adapter_config(name).members)

    def __contains__(self, name: object) -> bool:
        """Whether there is an adapter, a fusion, a head by itself, or a member of that name."""
        tables = (self._adapters, self._fusions, self.head_labels)
        return any(name in table for table in tables) or self._is_member(name)

    def _is_member(self, name: object) -> bool:
        adapter, member = parted(name) if isinstance(name, str) else ("", "")
        config = self._adapters.get(adapter)
        return config is not None and member in config.members

    def owner_of(self, name: str) -> str:
        """The adapter that a member belongs to; any other name itself."""
        return parted(name)[0] if self._is_member(name) else name

    def sole(self, name: str) -> str:
        """The only member of an adapter that has just one; any other name itself."""
        here = self.members_of(name) if name in self._adapters else ()
        return here[0] if len(here) == 1 else name

    def kind_of(self, name: str) -> str:
        """What a name is: ``"adapter"``, ``"fusion"``, ``"head"`` (one by itself), or ``"member"`` of an adapter.

        Raises:
            UnknownNameError: If there is nothing of that name.
        """
        self.require(name)
        if name in self._adapters:
            return "adapter"
        if name in self._fusions:
            return "fusion"
        return "member" if self._is_member(name) else "head"

    @property
    def lone_heads(self) -> tuple[str, ...]:
        """The names of heads by themselves, which belong to no adapter and no fusion."""
        owners = (self._adapters, self._fusions)
        return tuple(
            name
            for name in self.head_labels
            if not any(name in table for table in owners) and not self._is_member(name)
        )

    def config(self, name: str) -> AdapterConfig | LearnedConfig | HeadConfig:
        """The configuration of an adapter (also by a member's name), a fusion, or a head by itself.

        Raises:
            UnknownNameError: If there is nothing of that name.
        """
        self.require(name)
        name = self.owner_of(name)
        if name in self._adapters:
            return self._adapters[name]
        return self._fusions[name][1] if name in self._fusions else self._head_configs[name]

    def adapter_config(self, name: str) -> AdapterConfig:
        """The configuration of an adapter.

        Raises:
            UnknownNameError: If there is no adapter of that name.
        """
        if name not in self._adapters:
            raise unknown(name, self._adapters, "adapter")
        return self._adapters[name]

    def modules_of(self, name: str) -> dict[str, AdapterModule | LearnedModule]:
        """The modules of an adapter, a fusion or a member, by the key of their site."""
        self.require(name)
        places = self.sites.places
        fusion = name in self._fusions
        found = {n: here.fusion(name) if fusion else here.adapter(name) for n, here in self.site_modules.items()}
        return {self.sites.key_of(places[n]): module for n, module in found.items() if module is not None}

    def adapter_modules(self, name: str) -> dict[int, AdapterModule]:
        """The modules of an adapter, or of one member, by the place of their site in the map."""
        found = {n: here.adapter(name) for n, here in self.site_modules.items()}
        return {n: module for n, module in found.items() if module is not None}

    def shared_of(self, name: str) -> nn.Module | None:
        """What the modules of an adapter or a fusion share at all its sites, ``None`` if that is nothing.

        All weights of an adapter of peft count as shared, also those of peft's parts of a union.
        """
        self.require(name)
        root = holder_or_none(self.model, "")
        shared = None if root is None else root.shared.find(self.owner_of(name))
        peft = self.peft_adapters.weights(name)
        if shared is None or peft is None:
            return shared if peft is None else peft
        return together({**dict(shared.named_children()), **dict(peft.named_children())})

    def norms_of(self, name: str) -> dict[str, nn.Module]:
        """The norms that an adapter owns, those of its members too, by their path in the base."""
        found = norms_at(self.model, self.sites, name)
        return {self.sites.norms[n].removeprefix(self.sites.prefix): norm for n, norm in found.items()}

    def head_of(self, name: str) -> dict[str, nn.Module]:
        """The modules of the head of an adapter or a fusion, by path; empty if it has none."""
        found = holder_at(self.model, "").heads.find(name) if name in self.head_labels else None
        modules = {} if found is None else {path.replace("/", "."): m for path, m in found.named_children()}
        if self.head_paths:
            follow_vocabulary(self.model, modules)
        return modules

    def head_for(self, name: str) -> str | None:
        """The name of the head in use with a name: its own, else for a member that of its adapter, else ``None``."""
        return next((n for n in (name, self.sole(name), self.owner_of(name)) if n in self.head_labels), None)

    def labels(self, name: str) -> Labels | None:
        """The labels of the head of an adapter or a fusion, ``None`` if it has no head of its own."""
        return self.head_labels.get(name)

    def head_config(self, name: str) -> HeadConfig | None:
        """The configuration of the head of that name, ``None`` if there is none or it was copied from an AutoModelForX."""
        return self._head_configs.get(name)

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the adapters and fusions that are trained, and of members that are trained alone."""
        return self._trainable

    @property
    def active_heads(self) -> tuple[str, ...]:
        """The heads that were given with `activate`; empty for the model's own or the composition's own."""
        head = self.runtime.head
        if head is None or head == OWN:
            return ()
        return (head,) if isinstance(head, str) else head

    @property
    def names_in_use(self) -> set[str]:
        """The names in what is active and of its heads, and the adapters that its members belong to."""
        active = self.runtime.active
        names = {*names_in(active), *(block.name for block in fusions_in(active)), *self.active_heads}
        return names | set(map(self.owner_of, names))

    @property
    def active_labels(self) -> str | None:
        """The head whose labels are in the model's configuration while no forward pass runs."""
        plan = self.runtime.plan
        return None if plan is None else plan.labels

    @property
    def labels_differ(self) -> bool:
        """Whether some heads have other labels than the model's own."""
        return any(labels != self.shown_labels.own for labels in self.head_labels.different())

    def learned_problem_type(self, name: str | None, problem_type: str | None) -> None:
        """Note the problem type that a model chose for the first labels of a head."""
        labels = None if name is None else self.head_labels.get(name)
        if name is not None and labels is not None and labels.problem_type is None and problem_type is not None:
            self.head_labels.put(name, Labels(labels.names, problem_type))

    def require(self, name: str) -> None:
        """Refuse an unknown name.

        Raises:
            UnknownNameError: With the nearest known name.
        """
        if name not in self:
            self._refuse_stranger(name)
            raise unknown(name, self.parts, "adapter or fusion")

    def require_adapter(self, name: str) -> None:
        """Refuse what is no adapter and no member, and the name of an adapter with several members."""
        if self._is_member(name):
            return
        if name not in self._adapters:
            self._refuse_stranger(name)
        members = self.members_of(name)
        if len(members) > 1:
            raise CompositionError(
                f"{name!r} serves several tasks; say which: {', '.join(map(repr, members))} (several at once: "
                f"gw.MixedBatch([{members[0]!r}, {members[1]!r}]))"
            )

    def _choose_fixed_norms(self) -> None:
        # In training a batch norm uses the batch's statistics and updates its running ones. Those of what is not trained,
        # and those of the base unless it is trained whole, do not: they stay fixed functions.
        base = [] if self.base_mode == "trained" else self._base_norms
        owned = [norm for name, norms in self._statistics.items() if name not in self._trainable for norm in norms]
        self._fixed_norms = [*base, *owned]

    def _refuse_stranger(self, name: str) -> None:
        """Refuse the name of a member that its adapter does not have, with the members that it has."""
        adapter, member = parted(name) if isinstance(name, str) else ("", "")
        if adapter in self._adapters and self._adapters[adapter].members:
            raise unknown(member, self._adapters[adapter].members, f"member of {adapter!r}")
