"""The handle of an attached model: its registry, what is active, and what learns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach import base_merge, trainable, wiring
from graftwork.attach.base_weights import history_of, note_training
from graftwork.attach.changes import whole
from graftwork.attach.finding_heads import output_embeddings
from graftwork.attach.norms import standing_still, with_statistics
from graftwork.attach.parallel import refuse_replica
from graftwork.attach.planning import named_block, plan_of
from graftwork.attach.registry import Registry
from graftwork.attach.summary import Summary, summarize
from graftwork.compose import Composition, LearnedModule
from graftwork.errors import AttachError, ConfigError
from graftwork.forward.extra_losses import pay
from graftwork.forward.gradient_checkpointing import Bound, unbind_checkpointing
from graftwork.forward.heads_in_use import OWN
from graftwork.forward.model_with_heads import HANDLE
from graftwork.forward.shown_labels import show
from graftwork.forward.using import using
from graftwork.sites import SiteMap
from graftwork.weights.holder import base_modules, reclaim


class Handle(Registry):
    """All adapters of one model; made by `graftwork.attach`, found again by `graftwork.of`.

    Attributes:
        model: The user's own model, its classes and its forward untouched.
        sites: Where adapters can stand in it.
    """

    def __init__(self, model: nn.Module, sites: SiteMap, heads: Sequence[str] | None = None) -> None:
        super().__init__(model, sites, heads)
        self.runtime.handle = self
        self._vocabulary = self._words()
        self._still: dict[int, nn.Module] = {}
        self.homes = wiring.wire(model, sites, self.head_paths, self.runtime)
        self._base_norms = with_statistics(model)
        self.base_history = history_of(self)
        self._standing_still = list(self._base_norms)
        model.__dict__[HANDLE] = self
        for p in model.parameters():
            p.requires_grad_(False)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The weights that are trained, as an optimizer takes them.

        Example:
            >>> adapters.train_only("a")
            >>> optimizer = torch.optim.AdamW(adapters.trainable_parameters(), lr=1e-4)
        """
        return [p for p in self.model.parameters() if p.requires_grad]

    def summary(self) -> Summary:
        """A table of all adapters and fusions: weights, share of the base, where each is, what is active, what is trained."""
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
            head: Name of the head to use, several names (on a `ModelWithHeads` model: each runs on all rows), or ``None`` for the
                model's own. By default the composition's own.

        Raises:
            UnknownNameError: If something in it is not there.
            CompositionError: If it cannot be computed.

        Example:
            >>> adapters.activate(gw.Stack("a", "b"), head="b")
        """
        composition = named_block(self, composition)
        self.runtime.plan = plan_of(self, composition, head)
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

        Example:
            >>> with adapters.using(gw.Average("a", "b", weights=[0.3, 0.7]), head="a"):
            ...     logits = model(**batch).logits
        """
        return using(self.runtime, plan_of(self, named_block(self, composition), head))

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
        """The attention of the active fusions for one batch: fusion → site → ``(batch, positions, adapters)``.

        Example:
            >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
            >>> adapters.active = "ab"
            >>> weights = adapters.fusion_weights(**batch)["ab"]
            >>> next(iter(weights.values())).shape  # (batch, positions, adapters)
            torch.Size([2, 5, 2])
        """
        local = self.runtime.local
        before, local.record = self.runtime.record, {}
        try:
            with torch.no_grad():
                self.model(**inputs)
            return dict(local.record)
        finally:
            local.record = before

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

        Example:
            >>> adapters.train_only("a")
            >>> model(**batch, labels=labels).loss.backward()
        """
        if self.in_base is not None and base != "frozen":
            raise AttachError(
                f"{self.in_base.composition!r} is merged into the base; call unmerge() before the base is trained"
            )
        if base not in trainable.BASES:
            raise ConfigError(f"base is {base!r}; it must be one of {', '.join(trainable.BASES)}")
        names, default = trainable.trainable_names(self, what)
        trainable.refuse_untrainable(self, what, names, base)
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
        trainable.set_trainable(self, names, base)
        trainable.warn_of_unclear_heads(self, what)
        self._trainable, self.base_mode = names, base
        note_training(self)
        for norm in self._still.values():
            norm.train(self.model.training)
        self._still.clear()
        self._hold_still()

    @property
    def trainable_parts(self) -> tuple[str, ...]:
        """The adapters and fusions of which something learns: what has to be saved of it."""
        return tuple(dict.fromkeys(self.owner_of(name) for name in self._trainable))

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
        pulls = [module.regularization_loss() for module in self._learned_modules()]
        losses = [*(pull for pull in pulls if pull is not None), *self.runtime.losses]
        return torch.stack([loss.to(losses[0].device) for loss in losses]).sum() if losses else None

    def on_optimizer_step(self) -> None:
        """Say that the optimiser made a step: a fusion's temperature falls by it and by nothing else."""
        for module in self._learned_modules():
            module.on_optimizer_step()

    def _learned_modules(self) -> list[LearnedModule]:
        """The modules of the fusions that learn."""
        modules = [module for name in self._trainable for module in self.modules_of(name).values()]
        return [module for module in modules if isinstance(module, LearnedModule)]

    # -- the end ---------------------------------------------------------------------------------------------------

    @whole
    def merge_into_base(self, composition: Composition) -> None:
        """Add LoRAs to the base's own weights, so that they cost nothing to run: names, `Stack` and `Average` of them.

        What is active is set to ``None`` first. Until `unmerge` nothing can be saved or loaded, and what is merged cannot be
        active. ``detach(keep_merged=True)`` leaves the plain model with the new weights.

        Args:
            composition: The LoRAs, with constant weights.

        Raises:
            ConfigError: If one of them is no LoRA.
            CompositionError: If a weight depends on the input or the row.
            AttachError: If a weight of the base is quantised, offloaded or tied, or something is merged already; nothing is
                changed then.

        Example:
            >>> adapters.add("c", gw.LoRA(targets=["query", "value"]))
            >>> adapters.merge_into_base("c")
            >>> adapters.unmerge()
        """
        made = base_merge.merge_into_base(self, composition)
        self.activate(None)
        self.in_base = made

    @whole
    def unmerge(self) -> None:
        """Put back the weights that `merge_into_base` changed, with the same bits; does nothing where it changed none."""
        base_merge.unmerge(self)
        self.in_base = None

    @whole
    def detach(self, *, keep_merged: bool = False) -> None:
        """Take everything off the model: it is as it was before `attach`, bit for bit.

        A base that learned, or that `load_base` wrote into, stays what it became; `unload_base` first, where its original
        was kept.

        Args:
            keep_merged: Leave what `merge_into_base` added in the base's weights.

        Example:
            >>> adapters.detach()
        """
        if not keep_merged:
            base_merge.unmerge(self)
        self.runtime.plan, self.runtime.active, self.runtime.handle = None, None, None
        show(self)
        unbind_checkpointing(self)
        wiring.unwire(self.model)
        self.peft_adapters.clear()
        for module in self._still.values():
            module.train(self.model.training)
        for p, flag in self.original_flags:
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
        self.peft_adapters.before_forward(module.training, self._trainable)
        if self._vocabulary != self._words():
            self._vocabulary = self._words()
            for name in self.head_labels:
                self.head_of(name)  # follows
        away = any(parent._modules.get(name) is not home for parent, name, home in self.homes)
        if away and wiring.rehome(self.model, self.homes):
            self.replan()

    def checkpointed_modules(self) -> list[nn.Module]:
        """The modules that transformers may checkpoint."""
        return [m for _, m in base_modules(self.model) if "_gradient_checkpointing_func" in m.__dict__]

    def check(self, composition: Composition) -> None:
        """Refuse a composition that cannot be computed.

        Raises:
            UnknownNameError: If something in it is not there.
            CompositionError: If it cannot be computed.
        """
        plan_of(self, named_block(self, composition), None)

    def replan(self) -> None:
        self._trainable = tuple(name for name in self._trainable if name in self)
        self._hold_still()
        self.runtime.plan = plan_of(self, self.runtime.active, self.runtime.head)
        self.runtime.stale = False  # at last: other threads look at it first
        show(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.runtime.handle = self

    def __repr__(self) -> str:
        return f"<{len(self.names)} adapters on {type(self.model).__name__}, active: {self.active!r}>"

    def __str__(self) -> str:
        trained = ", ".join(self.trainable) or (
            "nothing" if self.base_mode == "frozen" else f"the base ({self.base_mode})"
        )
        return f"{self.summary()}\nactive: {self.active!r}\ntrained: {trained}"

    def _words(self) -> int | None:
        """How many words the model's own head gives, where it ends in a vocabulary; it may be resized at any time."""
        weight = getattr(output_embeddings(self.task_model), "weight", None) if self.head_paths else None
        return len(weight) if isinstance(weight, Tensor) else None

    def _hold_still(self) -> None:
        self._standing_still = standing_still(self._base_norms, self._statistics, self._trainable, self.base_mode)
