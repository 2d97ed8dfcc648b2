"""The handle of an attached model: its registry, what is active, and what learns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach import building, learning, wiring
from graftwork.attach.base import BaseHistory
from graftwork.attach.changes import whole
from graftwork.attach.checkpointing import Bound, unbind_checkpointing
from graftwork.attach.extra_losses import pay
from graftwork.attach.finding_heads import output_embeddings
from graftwork.attach.headed import HANDLE, Headed, Together
from graftwork.attach.heads import Labels, labelled
from graftwork.attach.holder import base_modules, reclaim
from graftwork.attach.named_heads import heads_in_use
from graftwork.attach.names import unknown
from graftwork.attach.norms import norm_finders, standing_still, with_statistics
from graftwork.attach.parallel import refuse_replica
from graftwork.attach.plan import Plan, make_plan, refuse_rows
from graftwork.attach.pruning import Pruned, prune
from graftwork.attach.registry import Registry
from graftwork.attach.runtime import OWN
from graftwork.attach.shown_labels import show
from graftwork.attach.summary import Summary, summarize
from graftwork.attach.using import using
from graftwork.compose import Block, Composition, LearnedModule, fusions_in, names_in
from graftwork.errors import AttachError, CompositionError, ConfigError
from graftwork.sites import SiteMap


class Handle(Registry):
    """All adapters of one model; made by `graftwork.attach`, found again by `graftwork.of`.

    Attributes:
        model: The user's own model, its classes and its forward untouched.
        sites: Where adapters can stand in it.
        base_mode: How the base learns, as `train_only` was told.
        base_history: What is known of the base before it learned.
    """

    def __init__(self, model: nn.Module, sites: SiteMap, heads: Sequence[str] | None = None) -> None:
        super().__init__(model, sites, heads)
        self.runtime.handle = self
        self._learning: tuple[str, ...] = ()
        self._flags = [(p, p.requires_grad) for p in model.parameters()]
        self._vocabulary = self._words()
        self._still: dict[int, nn.Module] = {}
        self._homes = wiring.wire(model, sites, self.head_paths, self.runtime)
        self._base_norms = with_statistics(model)
        self.base_mode = "frozen"
        self.base_history = BaseHistory.of(self)
        self._standing_still = list(self._base_norms)
        model.__dict__[HANDLE] = self
        for p in model.parameters():
            p.requires_grad_(False)

    def summary(self) -> Summary:
        """A table of all adapters and fusions: weights, share of the base, what is active, what learns."""
        return summarize(self)

    # -- what is active --------------------------------------------------------------------------------------------

    @property
    def active(self) -> Composition:
        """The composition that every forward pass computes; ``None`` is the plain model."""
        return self.runtime.active

    @active.setter
    def active(self, composition: Composition) -> None:
        self.activate(composition)

    @whole
    def activate(self, composition: Composition, *, head: str | Sequence[str] | None = OWN) -> None:
        """Set what every forward pass computes, as `active` does, with a choice of the head.

        The model's configuration then says the labels of the head in use, for pipelines of transformers and all who read
        them; of several heads, or none, the model's own.

        Args:
            composition: A name, a block, or ``None`` for the plain model.
            head: Name of the head to use, several names (on a `Headed` model: each runs on all rows), or ``None`` for the
                model's own. By default the composition's own.

        Raises:
            UnknownNameError: If something in it is not there.
            CompositionError: If it cannot be computed.
        """
        composition = self._named(composition)
        self.runtime.plan = self._plan(composition, head=head)
        self.runtime.active = composition
        self.runtime.head = head if head is None or isinstance(head, str) else tuple(head)
        self.runtime.stale = False
        show(self)

    def using(
        self, composition: Composition, *, head: str | Sequence[str] | None = OWN
    ) -> contextlib.AbstractContextManager[None]:
        """Compute another composition inside a ``with``; nests, and restores.

        It counts in this thread or asyncio task alone, and in what the task starts (``asyncio.gather``, ``asyncio.to_thread``).
        In the body of a generator it counts while the generator runs, not for whoever takes its items; one that contextlib
        makes a context manager of stands for the code around its ``with``. The model's configuration, of which there is one,
        goes on saying the labels of the head that is active outside.

        Args:
            composition: A name, a block, or ``None`` for the plain model.
            head: Name of the head to use, several names, or ``None`` for the model's own, as with `activate`. By default
                the composition's own.

        Raises:
            UnknownNameError: If something in it is not there.
            CompositionError: If it cannot be computed.
            AttachError: When it is left in another order than entered, or in another thread or task.
        """
        return using(self.runtime, self._plan(self._named(composition), head=head))

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
        return 0 if plan is None else sum(node.fold() for node in plan.nodes())

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

    def prune_fusion(
        self,
        fusion: str,
        batches: Iterable[Mapping[str, Any]],
        *,
        keep: int,
        name: str | None = None,
        active: Composition = None,
    ) -> Pruned:
        """Prune a trained fusion to the adapters that it attends to most (Rücklé et al. 2021, arXiv:2010.11918).

        Args:
            fusion: The fusion's name.
            batches: Inputs of the model, by name; the attention to each adapter is the mean over them, over unpadded
                positions and over sites.
            keep: How many of the pool are kept.
            name: A name for a new fusion, which gets a copy of the weights and of the head, and can be saved apart. By
                default the smaller pool shares the weights of the old name.
            active: What is active while it is measured, with the whole fusion in it; by default the fusion alone.

        Returns:
            The smaller fusion, to be made active, and the attention; printable.

        Raises:
            UnknownNameError: If there is no such fusion, or the new name is taken.
            CompositionError: If ``keep`` is more than there are, or the fusion took part in no batch.
        """
        return prune(self, fusion, batches, keep, name, active)

    # -- what learns -----------------------------------------------------------------------------------------------

    @whole
    def train_only(
        self,
        what: Composition | Sequence[str],
        *,
        active: Any = OWN,
        head: str | Sequence[str] | None = OWN,
        base: str = "frozen",
    ) -> None:
        """Choose what learns, and activate it.

        Args:
            what: An adapter or a fusion (by name or as its block), a head by itself, several of them, or ``None`` for the
                model's own head alone. Their heads learn with them. Everything else is fixed, its dropout off. An adapter
                with members learns with all of them, ``"hyper:mnli"`` is what is one member's alone.
            active: What is active while it learns; by default ``what`` itself.
            head: The head in use, as with `activate`.
            base: ``"frozen"``, ``"norms"`` (the base's norms learn), or ``"trained"`` (the whole base does).

        Raises:
            UnknownNameError: If something is not there.
            ConfigError: If ``base`` is none of the three, or several learn and nothing says what is active.
            AttachError: If the base is to learn and is offloaded, or is quantised so that it gives no gradients back.
        """
        if base not in learning.BASES:
            raise ConfigError(f"base is {base!r}; it must be one of {', '.join(learning.BASES)}")
        learners, default = learning.learners(self, what)
        learning.refuse_untrainable(self, what, learners, base)
        if isinstance(active, str) and active == OWN:
            if not default:
                raise ConfigError(
                    f"train_only({what!r}): give active= the composition that is active while these learn"
                )
            active = default[0]
        alone = what if isinstance(what, str) and what in self.lone_heads else None
        if active == alone:
            active = None
        self.activate(active, head=alone if alone is not None and head == OWN else head)
        learning.set_learning(self, learners, base)
        learning.warn_of_unclear_heads(self, what)
        self._learning, self.base_mode = learners, base
        self.base_history.note(self)
        for norm in self._still.values():
            norm.train(self.model.training)
        self._still.clear()
        self._hold_still()

    @property
    def learning(self) -> tuple[str, ...]:
        """The names of the adapters and fusions that learn, and of members that learn alone."""
        return self._learning

    @property
    def learning_parts(self) -> tuple[str, ...]:
        """The adapters and fusions of which something learns: what has to be saved of it."""
        return tuple(dict.fromkeys(self.owner_of(name) for name in self._learning))

    def auxiliary_loss(self) -> Tensor:
        """The extra losses of what learns, a scalar: a fusion's pull to the identity, what the last forward pass made.

        Added to ``outputs.loss`` in training where the model computes one, and counted once for each step of the optimiser: of
        a loss that is a sum over ``num_items_in_batch`` every call takes its share. With a loss of your own add it yourself,
        after the forward pass and in its thread; with label smoothing or a ``compute_loss_func``, `AdapterTrainer` does.
        """
        extra = self.auxiliary_loss_or_none()
        return torch.zeros(()) if extra is None else extra

    def auxiliary_loss_or_none(self) -> Tensor | None:
        """The same, ``None`` where nothing that learns has one."""
        pay(self.runtime)
        return self.extra_losses()

    def extra_losses(self) -> Tensor | None:
        """The same, for who adds them to the model's own loss."""
        pulls = [module.pull() for module in self._learned_modules()]
        losses = [*(pull for pull in pulls if pull is not None), *self.runtime.losses]
        return torch.stack([loss.to(losses[0].device) for loss in losses]).sum() if losses else None

    def advance(self) -> None:
        """Say that the optimiser made a step: a fusion's temperature falls by it and by nothing else."""
        for module in self._learned_modules():
            module.advance()

    def _learned_modules(self) -> list[LearnedModule]:
        """The modules of the fusions that learn."""
        modules = [module for name in self._learning for module in self.modules_of(name).values()]
        return [module for module in modules if isinstance(module, LearnedModule)]

    # -- the end ---------------------------------------------------------------------------------------------------

    @whole
    def detach(self) -> None:
        """Take everything off the model: it is as it was before `attach`, bit for bit.

        A base that learned, or that `load_base` wrote into, stays what it became; `unload_base` first, where its original
        was kept.
        """
        self.runtime.plan, self.runtime.active, self.runtime.handle = None, None, None
        show(self)
        unbind_checkpointing(self)
        wiring.unwire(self.model)
        self._injected.clear()
        for module in self._still.values():
            module.train(self.model.training)
        for p, flag in self._flags:
            p.requires_grad_(flag)
        self.model.__dict__.pop(HANDLE, None)

    # -- for the other parts of the library ------------------------------------------------------------------------

    def before_forward(self, module: nn.Module) -> None:
        """Work at the start of a forward pass: hooks follow wrapped modules, norms that do not learn stand still."""
        for norm in self._standing_still if module.training else ():
            if norm.training:
                norm.training = False
                self._still[id(norm)] = norm
        if torch.compiler.is_compiling():
            return
        refuse_replica(self, module)
        reclaim(self.model)
        self._injected.before_forward(module.training, self._learning)
        if self._vocabulary != self._words():
            self._vocabulary = self._words()
            for name in self._labels:
                self.head_of(name)  # follows
        away = any(parent._modules.get(name) is not home for parent, name, home in self._homes)
        if away and wiring.rehome(self.model, self._homes):
            self.replan()

    def checkpointed_modules(self) -> list[nn.Module]:
        """The modules that transformers may checkpoint."""
        return [m for _, m in base_modules(self.model) if "_gradient_checkpointing_func" in m.__dict__]

    @property
    def labels_differ(self) -> bool:
        """Whether some heads predict other labels than the model's own."""
        return any(labels != self.shown_labels.own for labels in self._labels.values())

    def learned_problem_type(self, name: str | None, problem_type: str | None) -> None:
        """Remember what a model made of a head's first labels."""
        labels = None if name is None else self._labels.get(name)
        if name is not None and labels is not None and labels.problem_type is None and problem_type is not None:
            self._labels = {**self._labels, name: Labels(labels.names, problem_type)}

    def check(self, composition: Composition) -> None:
        """Refuse a composition that cannot be computed.

        Raises:
            UnknownNameError: If something in it is not there.
            CompositionError: If it cannot be computed.
        """
        self._plan(self._named(composition), head=None)

    def replan(self) -> None:
        self._learning = tuple(name for name in self._learning if name in self)
        self._hold_still()
        self.runtime.plan = self._plan(self.runtime.active, head=self.runtime.head)
        self.runtime.stale = False  # at last: other threads look at it first
        show(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.runtime.handle = self

    def __repr__(self) -> str:
        return f"<{len(self.names)} adapters on {type(self.model).__name__}, active: {self.active!r}>"

    def _words(self) -> int | None:
        """How many words the model's own head gives, where it ends in a vocabulary; it may be resized at any time."""
        weight = getattr(output_embeddings(self.task_model), "weight", None) if self.head_paths else None
        return len(weight) if isinstance(weight, Tensor) else None

    def _hold_still(self) -> None:
        self._standing_still = standing_still(self._base_norms, self._statistics, self._learning, self.base_mode)

    def _named(self, composition: Composition) -> Composition:
        if composition is not None and not isinstance(composition, (str, Block)):
            raise CompositionError(f"{composition!r} is no composition; give an adapter's name, None, or a block")
        if isinstance(composition, str) and composition in self._fusions:
            return self._fusions[composition][0]
        return composition

    def _plan(self, composition: Composition, head: str | Sequence[str] | None = OWN) -> Plan | None:
        if composition is None and head in (None, OWN):
            return None
        for name in names_in(composition):
            self._require_adapter(name)
        for fuse in fusions_in(composition):
            if fuse.name not in self._fusions:
                raise unknown(fuse.name, self._fusions, "fusion", f"call add_fusion({fuse!r}) or load it first")
            there = self._fusions[fuse.name][0]
            if there.kind != fuse.kind:
                raise CompositionError(
                    f"{fuse!r}: {fuse.name!r} is a {type(there).__name__}; it was added as {there!r}"
                )
        injected = self._injected.active_in(composition)
        norms, modules = norm_finders(self.model, self.sites)
        plan = make_plan(composition, self.sites, self._site_modules, norms, modules)
        plan.injected, plan.prompt = injected, self._injected.prompt_in(composition)
        if plan.prompt is not None:
            plan.prompt.prepare(plan)
        refuse_rows(plan, self.model, self.sites)
        plan.looked_up = building.looked_up(self.model, self.sites, {*plan.branch, *plan.stream})
        chosen = heads_in_use(composition, head, self._labels, self.head_for)
        if isinstance(self.model, Headed):
            plan.named_heads = chosen
            return plan
        if isinstance(chosen, Together):
            raise CompositionError(
                f"the heads {list(chosen.names)} at once: one {type(self.model).__name__} gives one output; attach to "
                "gw.Headed(base) for several"
            )
        known: dict[str | None, Labels] = {None: self._own_labels}
        known.update(self._labels)
        plan.labels = labelled(chosen, known)
        for path in self.head_paths:
            program = building.head_program(chosen, path, self.head_of)
            if program is not None:
                plan.heads[path] = program
        return plan
