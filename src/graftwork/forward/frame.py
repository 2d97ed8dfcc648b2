"""The frame of a forward pass: what is known of the call that is under way.

A frame is opened by the outermost module of an attached model that runs, and is closed when that module is left, also by an
exception. It carries a tensor from where the stream can be read to the site that adds to it. Nothing of it stays behind on a
module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.compose.rows import Rows
from graftwork.errors import AttachError
from graftwork.forward.call_inputs import Call
from graftwork.forward.plan import Plan
from graftwork.forward.stand_ins import Override, inputs_of
from graftwork.methods.layers.norms import run_norm


class Frame:
    """One forward pass.

    Attributes:
        plan: What is computed at each site.
        opener: The module whose call opened the frame; ``None`` for one that is replayed.
        call: What is known of the inputs.
        taps: Tensors on their way to a site, by ``(site, role)``.
        counts: How often each counted module was called so far.
        record: Where fusions write their weights, or ``None``.
        losses: The extra losses that were made so far.
        closed: Whether the forward pass has ended.
        compiled: Whether it was opened in compiled code.
        graded: Whether gradients were recorded when it was opened.
        bound: How many functions bound to it are under way.
        part: The rows that the module under way is given, where it is not given all of them.
        gates: The gates of peft's layers as they are now, by identity.
        memo: What sites have in common in this pass, see `graftwork.compose.reads.SiteContext`.
        asked: The layers of another library that computed, by identity; kept where there are several adapters of such.
    """

    def __init__(self, plan: Plan, opener: nn.Module | None, call: Call, record: dict[Any, Any] | None = None) -> None:
        self.plan = plan
        self.opener = opener
        self.call = call
        self.record = record
        self.taps: dict[tuple[int, str], Tensor] = {}
        self.counts: dict[int, int] = {}
        self.norms: dict[int, Override] = {}
        self.losses: list[Tensor] = []
        self.depth = 1
        self.closed = False
        self.compiled = torch.compiler.is_compiling()
        self.graded = torch.is_grad_enabled()
        self.bound = 0
        self.part: Rows | None = None
        self.asked: dict[int, Any] = {}
        self.gates: dict[int, Tensor] = {}
        self.memo: dict[Any, Any] = {}
        self.settings: Any = None  # the pass that the configuration's labels are set for, see `shown_labels`

    def wants(self, site: int, role: str) -> bool:
        """Whether somebody asks for a tensor that passes."""
        return role in self.plan.taps.get(site, ())

    def carry(self, site: int, role: str, tensor: Tensor) -> None:
        """Take a tensor that passes to where it is asked for."""
        if role in self.plan.taps.get(site, ()):
            self.taps[site, role] = tensor

    def norm(self, index: int) -> Override | None:
        """The norm of the map's ``index`` as it is in this call, ``None`` where no adapter overrides it."""
        program = self.plan.norms.get(index)
        if program is None:
            return None
        if index not in self.norms:
            base = self.plan.norm_modules[index]
            inputs = {name: self.call.input(name) for name in inputs_of(program)}
            self.norms[index] = Override.bound(base, run_norm, program, self.call.rows, self.call.beams, inputs)
        return self.norms[index]

    @contextlib.contextmanager
    def on_rows(self, rows: Rows) -> Iterator[None]:
        """Say that what runs inside is given some of the rows alone."""
        before, self.part = self.part, rows
        try:
            yield
        finally:
            self.part = before

    def add_loss(self, loss: Tensor) -> None:
        """Take an extra loss of what learns, a scalar; when a block is recomputed it has been taken before.

        Raises:
            AttachError: If it has no gradient though this forward pass records them: reentrant checkpointing runs a block
                without, and the loss would teach nothing.
        """
        if self.opener is None:
            return
        if self.graded and not torch.is_grad_enabled():
            raise AttachError(
                f"something in {self.plan.composition!r} has a loss of its own, and the block that it stands in is run without "
                "gradients, as reentrant checkpointing does: the loss would teach nothing; call "
                "gradient_checkpointing_enable({'use_reentrant': False}), or give that loss the weight 0"
            )
        self.losses.append(loss)

    def snapshot(self) -> Frame:
        """A frame that replays from here on: same plan and inputs, own counters, the taps as they are."""
        copy = Frame(self.plan, None, self.call)
        copy.taps = dict(self.taps)
        copy.counts = dict(self.counts)
        return copy
