"""The handle of an attached model: its registry, what is active, and what is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach import base_merge, trainable, wiring
from graftwork.attach.base_weights import history_of, note_training
from graftwork.attach.changes import whole
from graftwork.attach.combining import Combining
from graftwork.attach.finding_heads import output_embeddings
from graftwork.attach.parallel import refuse_replica
from graftwork.attach.planning import bring, named_block, plan_of
from graftwork.attach.sharded_base import follow_sharding
from graftwork.attach.summary import Summary, summarize
from graftwork.compose import Block, Composition, LearnedModule
from graftwork.errors import AttachError, ConfigError
from graftwork.forward.extra_losses import pay
from graftwork.forward.gradient_checkpointing import Bound, unbind_checkpointing
from graftwork.forward.heads_in_use import OWN
from graftwork.forward.model_with_heads import HANDLE
from graftwork.forward.shown_labels import show
from graftwork.forward.using import using
from graftwork.sites import SiteMap
from graftwork.weights.holder import base_modules, reclaim
from graftwork.weights.samples import is_sharded
from graftwork.weights.sharded import Replicas, ranks


class Handle(Combining):
    """All adapters of one model; made by `graftwork.attach`, found again by `graftwork.of`.

    Attributes:
        model: The user's own model; its classes and its forward are unchanged.
        sites: The sites where adapters can be.
    """

    def __init__(self, model: nn.Module, sites: SiteMap, heads: Sequence[str] | None = None) -> None:
        super().__init__(model, sites, heads)
        self.runtime.handle = self
        self._vocabulary = self._vocabulary_size()
        self._in_eval_mode: dict[int, nn.Module] = {}  # fixed norms, by identity, while the model is in training mode
        self._replicas = Replicas()
        self.homes = wiring.wire(model, sites, self.head_paths, self.runtime)
        self.base_history = history_of(self)
        model.__dict__[HANDLE] = self
        model.requires_grad_(False)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The weights that are trained, for an optimizer.

        Example:
            >>> adapters.train_only("a")
            >>> optimizer = torch.optim.AdamW(adapters.trainable_parameters(), lr=1e-4)
        """
        return [p for p in self.model.parameters() if p.requires_grad]

    def summary(self) -> Summary:
        """A table of all adapters and fusions: weights, share of the base, sites, what is active, what is trained."""
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
        """Set what every forward pass computes, as `active` does, and which head.

        The model's configuration then has the labels of the head in use, which pipelines of transformers read; with several
        heads, or none, the model's own labels.

        Args:
            composition: A name, a block, or ``None`` for the plain model.
            head: The name of the head to use, several names (on a `ModelWithHeads` model: each runs on all rows), or ``None``
                for the model's own. By default the composition's own.

        Raises:
            UnknownNameError: If there is nothing of a name.
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
        """Compute another composition inside a ``with`` block, which may be nested.

        It holds in this thread or asyncio task alone, and in what the task starts (``asyncio.gather``, ``asyncio.to_thread``).
        In a generator it holds while the generator runs, not for the code that takes its items; in one that contextlib makes
        a context manager of, for the code in that ``with`` block. The model's configuration, of which there is only one,
        keeps the labels of the head that is active outside.

        Args:
            composition: A name, a block, or ``None`` for the plain model.
            head: The name of the head to use, several names, or ``None`` for the model's own, as with `activate`. By default
                the composition's own.

        Raises:
            UnknownNameError: If there is nothing of a name.
            CompositionError: If it cannot be computed.
            AttachError: When it is left in another order than entered, or in another thread or task.

        Example:
            >>> with adapters.using(gw.Average("a", "b", weights=[0.3, 0.7]), head="a"):
            ...     logits = model(**batch).logits
        """
        return using(self.runtime, plan_of(self, named_block(self, composition), head))

    def bind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function bound to the running forward pass, for gradient checkpointing of the user's own.

        Raises:
            AttachError: If no forward pass of the model is running.
        """
        self.runtime.unbound = False
        frame = self.runtime.frame
        if frame is not None:
            return Bound(function, self.runtime, frame)
        if self.runtime.current_plan() is None:
            return function
        raise AttachError("bind(fn) is called inside the model's forward, where the checkpointed function is run")

    def fold(self) -> int:
        """Fold the weights of the active fusions and keep them folded, for compiled models; returns the number of sites.

        Only compiled models need this: otherwise weights are folded at inference, and again when they change. What is folded
        here stays as it is until something else is activated.
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

    # -- what is trained -------------------------------------------------------------------------------------------

    @whole
    def train_only(
        self,
        what: Composition | Sequence[str],
        *,
        active: Any = OWN,
        head: str | Sequence[str] | None = OWN,
        base: str = "frozen",
    ) -> None:
        """Choose what is trained, and activate it.

        Args:
            what: An adapter or a fusion (by name or as its block), a head by itself, several of them, or ``None`` for the
                model's own head alone. Their heads are trained with them. Everything else is frozen, with its dropout off.
                An adapter is trained with all its members, ``"hyper:mnli"`` means the weights of one member alone.
            active: What is active in training; by default ``what`` itself.
            head: The head in use, as with `activate`.
            base: ``"frozen"``, ``"norms"`` (the base's norms are trained), or ``"trained"`` (the whole base is).

        Raises:
            UnknownNameError: If there is nothing of a name.
            ConfigError: If ``base`` is none of the three, or several are trained and ``active`` is not given.
            AttachError: If the base shall be trained and is offloaded, or its quantised layers return no gradients.

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
        bring(self, *([what] if what is None or isinstance(what, (str, Block)) else what))
        names, default = trainable.trainable_names(self, what)
        trainable.refuse_untrainable(self, what, names, base)
        if isinstance(active, str) and active == OWN:
            if not default:
                raise ConfigError(f"train_only({what!r}): give active= the composition that is active in training")
            active = default[0]
        alone = what if isinstance(what, str) and what in self.lone_heads else None
        if active == alone:
            active = None
        self.activate(active, head=alone if alone is not None and head == OWN else head)
        trainable.set_trainable(self, names, base)
        trainable.warn_of_unclear_heads(self, what)
        self._trainable, self.base_mode = names, base
        note_training(self)
        for norm in self._in_eval_mode.values():
            norm.train(self.model.training)
        self._in_eval_mode.clear()
        self._choose_fixed_norms()
        if ranks() > 1:  # compiled code may look only once
            self._follow_sharding()

    @property
    def trainable_parts(self) -> tuple[str, ...]:
        """The adapters and fusions with trained weights, which a checkpoint has to save."""
        return tuple(dict.fromkeys(self.owner_of(name) for name in self._trainable))

    def auxiliary_loss(self) -> Tensor:
        """The extra losses of what is trained, a scalar: a fusion's pull to the identity, and those of the last forward pass.

        In training they are part of ``outputs.loss`` if the model computes one, once for each step of the optimizer: a loss
        that is a sum over ``num_items_in_batch`` gets its share of them in every call. Add them to a loss of your own, after
        the forward pass and in its thread; `AdapterTrainer` does so with label smoothing or a ``compute_loss_func``.
        """
        extra = self.auxiliary_loss_or_none()
        return torch.zeros(()) if extra is None else extra

    def auxiliary_loss_or_none(self) -> Tensor | None:
        """The same, ``None`` if nothing that is trained has extra losses."""
        pay(self.runtime)
        return self.extra_losses()

    def extra_losses(self) -> Tensor | None:
        """The same, for code that adds them to the model's own loss."""
        pulls = [module.regularization_loss() for module in self._learned_modules()]
        losses = [*(pull for pull in pulls if pull is not None), *self.runtime.losses]
        return torch.stack([loss.to(losses[0].device) for loss in losses]).sum() if losses else None

    def on_optimizer_step(self) -> None:
        """Count a step of the optimizer, by which the temperature of a fusion falls."""
        for module in self._learned_modules():
            module.on_optimizer_step()

    def _learned_modules(self) -> list[LearnedModule]:
        """The modules of the fusions that are trained."""
        modules = [module for name in self._trainable for module in self.modules_of(name).values()]
        return [module for module in modules if isinstance(module, LearnedModule)]

    # -- the end ---------------------------------------------------------------------------------------------------

    @whole
    def detach(self, *, keep_merged: bool = False) -> None:
        """Remove everything from the model, which is then as before `attach`, bit for bit.

        A base that was trained or replaced by `load_base` stays so; call `unload_base` first if its original was kept.

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
        for norm in self._in_eval_mode.values():
            norm.train(self.model.training)
        self._replicas.follow(self.model, {})
        own = list(self.model.parameters())
        replaced = any(map(is_sharded, own))  # by shards, in the same order
        for p, (original, flag) in zip(own, self.original_flags, strict=False):
            (p if replaced else original).requires_grad_(flag)
        self.model.__dict__.pop(HANDLE, None)

    # -- for the other parts of the library ------------------------------------------------------------------------

    def before_forward(self, module: nn.Module) -> None:
        """Work at the start of a forward pass: hooks follow modules that were wrapped, fixed norms are put in eval mode."""
        for norm in self._fixed_norms if module.training else ():
            if norm.training:
                norm.training = False
                self._in_eval_mode[id(norm)] = norm
        if module.training and torch.is_grad_enabled() and ranks() > 1:
            self._follow_sharding()
        if torch.compiler.is_compiling():
            return
        refuse_replica(self, module)
        reclaim(self.model)
        self.peft_adapters.before_forward(module.training, self._trainable)
        if self._vocabulary != self._vocabulary_size():
            self._vocabulary = self._vocabulary_size()
            for name in self.head_labels:
                self.head_of(name)  # resizes the copies
        replaced = any(parent._modules.get(name) is not module for parent, name, module in self.homes)
        if replaced and wiring.rehome(self.model, self.homes):
            self.replan()

    def checkpointed_modules(self) -> list[nn.Module]:
        """The modules that transformers may checkpoint."""
        return [m for _, m in base_modules(self.model) if "_gradient_checkpointing_func" in m.__dict__]

    def check(self, composition: Composition) -> None:
        """Refuse a composition that cannot be computed.

        Raises:
            UnknownNameError: If there is nothing of a name in it.
            CompositionError: If it cannot be computed.
        """
        plan_of(self, named_block(self, composition), None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.runtime.handle = self

    def __repr__(self) -> str:
        return f"<{len(self.names)} adapters on {type(self.model).__name__}, active: {self.active!r}>"

    def __str__(self) -> str:
        base = "nothing" if self.base_mode == "frozen" else f"the base ({self.base_mode})"
        return f"{self.summary()}\nactive: {self.active!r}\ntrained: {', '.join(self.trainable) or base}"

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch gives it no type
    def _follow_sharding(self) -> None:
        """Keep adapters equal on all ranks; while compiling, before the compiled code runs."""
        follow_sharding(self, self._replicas)

    def _vocabulary_size(self) -> int | None:
        """The number of words of a head over the vocabulary, which may be resized at any time; ``None`` for another head."""
        weight = getattr(output_embeddings(self.task_model), "weight", None) if self.head_paths else None
        return len(weight) if isinstance(weight, Tensor) else None
