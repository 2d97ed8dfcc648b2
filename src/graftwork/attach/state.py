"""What a model carries: its adapters, fusions, heads and members by name, and what each is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftwork.attach.changes import Lock
from graftwork.attach.finding_heads import find_heads
from graftwork.attach.model_head import follow_vocabulary
from graftwork.attach.norms import norms_at
from graftwork.compose import Composition, Learned, LearnedConfig, LearnedModule
from graftwork.errors import CompositionError
from graftwork.forward.heads_in_use import OWN, Labels
from graftwork.forward.runtime import Runtime
from graftwork.forward.shown_labels import ShownLabels
from graftwork.heads import HeadConfig
from graftwork.methods import AdapterConfig, AdapterModule
from graftwork.peft_bridge import PeftAdapters, together
from graftwork.sites import SiteMap
from graftwork.weights.holder import Holder, SiteAdapters, holder_at, holder_or_none
from graftwork.weights.names import full_name, parted, unknown
from graftwork.weights.samples import Sample


@dataclasses.dataclass
class BaseHistory:
    """How a base came to be what it is.

    Attributes:
        parameters: The shapes of the parameters that it had when it was attached, by name, heads among them. They are known
            again by these: offloading, sharding and moves put other tensors in their places.
        buffers: The names of the buffers that it had then; adapters of other libraries bring more.
        before: A few values of every tensor of the original; ``None`` while nothing of it was allowed to learn.
        changed: The names of what may have changed since.
        kept: The original of what `load_base` wrote over, and what was known then; ``None`` where it was not asked to.
    """

    parameters: dict[str, torch.Size] = dataclasses.field(default_factory=dict)
    buffers: frozenset[str] = frozenset()
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


class ModelState:
    """What a model carries, looked up by name.

    Attributes:
        model: The user's own model, its classes and its forward untouched.
        sites: Where adapters can stand in it.
        lock: Held by the thread that changes what the model carries.
        runtime: The state that the model's hooks share.
        head_paths: The modules of the model's own head.
        shown_labels: What the model's configuration says of labels.
        own_labels: The labels of the model's own head.
        head_labels: The labels of every other head, by its name.
        site_modules: The adapters and fusions at each site, by the place of the site in the map.
        homes: The modules with hooks, each with its parent and its name there.
        peft_adapters: The adapters whose modules are peft's.
        unclear_heads: Modules and parameters that may be a head too, or part of one, and of which adapters own no copy.
        original_flags: The model's own weights, and whether each asked for a gradient when it was attached.
        base_mode: How the base is trained, see `Handle.train_only`.
        base_history: What is known of the base before it was trained.
        in_base: The LoRAs that are merged into the base's weights; ``None`` where there are none.
    """

    in_base: InBase | None = None

    def __init__(self, model: nn.Module, sites: SiteMap, heads: Sequence[str] | None = None) -> None:
        self.model = model
        self.sites = sites
        self.lock = Lock()
        self.runtime = Runtime()
        self._task_model, self.head_paths, self.unclear_heads = find_heads(model, sites, heads)
        # Replaced by changes, never edited: other threads look into them meanwhile.
        self._adapters: Mapping[str, AdapterConfig] = {}
        self._fusions: Mapping[str, tuple[Learned, LearnedConfig]] = {}
        self.head_labels: Mapping[str, Labels] = {}
        self._head_configs: Mapping[str, HeadConfig] = {}
        self.site_modules: Mapping[int, SiteAdapters] = {}
        self.homes: list[tuple[nn.Module, str, nn.Module]] = []
        self._statistics: Mapping[str, list[nn.Module]] = {}  # of each adapter that has some, the norms that keep them
        self.shown_labels = ShownLabels(self.task_model)
        self.own_labels = Labels.of(getattr(self.task_model, "config", None))
        self.peft_adapters = PeftAdapters(model, self.runtime, sites)
        self._trainable: tuple[str, ...] = ()
        self.original_flags = [(p, p.requires_grad) for p in model.parameters()]
        self.base_mode = "frozen"
        self.base_history = BaseHistory()

    @property
    def task_model(self) -> nn.Module:
        """The model that has the head and the labels: the model itself, or the one inside a wrapper."""
        return self.model.get_submodule(self._task_model)

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters' names."""
        return tuple(self._adapters)

    @property
    def fusions(self) -> dict[str, Learned]:
        """The fusions, and every other block that learns: name to block with its pool."""
        return {name: pool for name, (pool, _) in self._fusions.items()}

    def pool_of(self, name: str) -> Learned | None:
        """The block of a fusion with its pool, ``None`` where there is no fusion of that name."""
        return self._fusions[name][0] if name in self._fusions else None

    @property
    def parts(self) -> tuple[str, ...]:
        """Every name that is taken: adapters, fusions, heads by themselves."""
        return (*self._adapters, *self._fusions, *self.lone_heads)

    @property
    def members(self) -> tuple[str, ...]:
        """The members of all adapters that have some, as compositions name them: ``"hyper:mnli"``."""
        return tuple(member for name in self._adapters for member in self.members_of(name))

    def members_of(self, name: str) -> tuple[str, ...]:
        """The members of one adapter, as compositions name them; empty where it has none.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        self.require_plain_adapter(name)
        return tuple(full_name(name, member) for member in self._adapters[name].members)

    def __contains__(self, name: object) -> bool:
        """Whether a name means something: an adapter, a fusion, a head by itself, or a member."""
        return self._is_part(name) or self._is_member(name)

    def _is_part(self, name: object) -> bool:
        # What has a head and is none of these is a member.
        return (
            name in self._adapters or name in self._fusions or (name in self.head_labels and not self._is_member(name))
        )

    def _is_member(self, name: object) -> bool:
        adapter, member = parted(name) if isinstance(name, str) else ("", "")
        config = self._adapters.get(adapter)
        return config is not None and member in config.members

    def owner_of(self, name: str) -> str:
        """The adapter that a member belongs to; every other name itself."""
        return parted(name)[0] if not self._is_part(name) and self._is_member(name) else name

    def sole(self, name: str) -> str:
        """The member that an adapter's own name means, where it has one member alone; every other name itself."""
        here = self.members_of(name) if name in self._adapters else ()
        return here[0] if len(here) == 1 else name

    def kind_of(self, name: str) -> str:
        """What a name is: ``"adapter"``, ``"fusion"``, ``"head"`` for one by itself, or an adapter's ``"member"``.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        self.require(name)
        if name in self._adapters or name in self._fusions:
            return "adapter" if name in self._adapters else "fusion"
        return "member" if self._is_member(name) else "head"

    @property
    def lone_heads(self) -> tuple[str, ...]:
        """The names of heads by themselves, which belong to no adapter and no fusion."""
        return tuple(
            name
            for name in self.head_labels
            if name not in self._adapters and name not in self._fusions and not self._is_member(name)
        )

    def config(self, name: str) -> AdapterConfig | LearnedConfig | HeadConfig:
        """The configuration of an adapter (also by a member's name) or a fusion, or of a head by itself.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        self.require(name)
        name = self.owner_of(name)
        if name in self._adapters:
            return self._adapters[name]
        return self._fusions[name][1] if name in self._fusions else self._head_configs[name]

    def adapter_config(self, name: str) -> AdapterConfig:
        """The configuration of an adapter.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        self.require_plain_adapter(name)
        return self._adapters[name]

    def modules_of(self, name: str) -> dict[str, AdapterModule | LearnedModule]:
        """The modules of an adapter or a fusion: site key to module; of a member what is computed for it."""
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
        """What the modules of an adapter or a fusion at all its sites have in common, ``None`` where that is nothing.

        Of an adapter of peft these are all its weights, and so they are of the parts of peft in a union.
        """
        self.require(name)
        root = holder_or_none(self.model, "")
        ours = None if root is None else root.shared.find(self.owner_of(name))
        theirs = self.peft_adapters.weights(name)
        if ours is None or theirs is None:
            return ours if theirs is None else theirs
        return together({**dict(ours.named_children()), **dict(theirs.named_children())})

    def norms_of(self, name: str) -> dict[str, nn.Module]:
        """The norms that an adapter owns, those of its members too: path in the base to module."""
        found = norms_at(self.model, self.sites, name)
        return {self.sites.norms[n].removeprefix(self.sites.prefix): norm for n, norm in found.items()}

    def head_of(self, name: str) -> dict[str, nn.Module]:
        """The modules of the head of an adapter or a fusion: path to module; empty where it has none."""
        found = self._root_holder().heads.find(name) if name in self.head_labels else None
        modules = {} if found is None else {path.replace("/", "."): m for path, m in found.named_children()}
        if self.head_paths:
            follow_vocabulary(self.model, modules)
        return modules

    def head_for(self, name: str) -> str | None:
        """Whose head a name uses: its own, else a member that of its adapter; ``None`` where neither has one."""
        return next((n for n in (name, self.sole(name), self.owner_of(name)) if n in self.head_labels), None)

    def labels(self, name: str) -> Labels | None:
        """What the head of an adapter or a fusion predicts, ``None`` where it has no head of its own."""
        return self.head_labels.get(name)

    def head_config(self, name: str) -> HeadConfig | None:
        """What the head of that name was made by, ``None`` for one of an AutoModelForX, or where there is none."""
        return self._head_configs.get(name)

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the adapters and fusions that learn, and of members that learn alone."""
        return self._trainable

    @property
    def active_heads(self) -> tuple[str, ...]:
        """The heads that were asked for when what is active was activated."""
        head = self.runtime.head
        return () if head is None or head == OWN else (head,) if isinstance(head, str) else tuple(head)

    @property
    def active_labels(self) -> str | None:
        """The head whose labels the model's configuration says while no forward pass is under way."""
        plan = self.runtime.plan
        return None if plan is None else plan.labels

    @property
    def labels_differ(self) -> bool:
        """Whether some heads predict other labels than the model's own."""
        return any(labels != self.shown_labels.own for labels in self.head_labels.values())

    def learned_problem_type(self, name: str | None, problem_type: str | None) -> None:
        """Remember what a model made of a head's first labels."""
        labels = None if name is None else self.head_labels.get(name)
        if name is not None and labels is not None and labels.problem_type is None and problem_type is not None:
            self.head_labels = {**self.head_labels, name: Labels(labels.names, problem_type)}

    def _root_holder(self) -> Holder:
        return holder_at(self.model, "")

    def require(self, name: str) -> None:
        """Refuse a name that is not there.

        Raises:
            UnknownNameError: Naming the nearest that is.
        """
        if name not in self:
            self._refuse_stranger(name)
            raise unknown(name, self.parts, "adapter or fusion")

    def require_plain_adapter(self, name: str) -> None:
        """Refuse what is no adapter, a member too.

        Raises:
            UnknownNameError: Naming the nearest that is.
        """
        if name not in self._adapters:
            raise unknown(name, self._adapters, "adapter")

    def require_adapter(self, name: str) -> None:
        """Refuse what is no adapter and no member, and the name of an adapter that means several."""
        if name not in self._adapters and not self._is_member(name):
            self._refuse_stranger(name)
            raise unknown(name, self._adapters, "adapter")
        here = self.members_of(name) if name in self._adapters else ()
        if len(here) > 1:
            raise CompositionError(
                f"{name!r} serves several tasks; say which: {', '.join(map(repr, here))} (several at once: "
                f"gw.MixedBatch([{here[0]!r}, {here[1]!r}]))"
            )

    def _refuse_stranger(self, name: str) -> None:
        """Refuse a member that an adapter with members does not have, naming those it has."""
        adapter, member = parted(name) if isinstance(name, str) else ("", "")
        if adapter in self._adapters and self._adapters[adapter].members:
            raise unknown(member, self._adapters[adapter].members, f"member of {adapter!r}")
