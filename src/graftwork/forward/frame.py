"""The frame of a forward pass: what is known of the call that is under way.

A frame is opened by the outermost module of an attached model that runs, and is closed when that module returns or raises. It
carries a tensor from where the residual stream can be read to the site that adds to it. Nothing of it is left on a module.
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
    """One forward pass: its plan, its inputs, and what was computed so far."""

    def __init__(self, plan: Plan, opener: nn.Module | None, call: Call, record: dict[Any, Any] | None = None) -> None:
        self.plan = plan
        self.opener = opener  # the module whose call opened the frame; None for a frame that is replayed
        self.call = call
        self.record = record  # where fusions write their weights
        self.taps: dict[tuple[int, str], Tensor] = {}  # tensors on their way to a site, by (site, role)
        self.counts: dict[int, int] = {}  # how often each counted module was called
        self.norms: dict[int, Override] = {}
        self.losses: list[Tensor] = []  # the extra losses
        self.depth = 1
        self.closed = False
        self.compiled = torch.compiler.is_compiling()
        self.graded = torch.is_grad_enabled()  # whether gradients are recorded
        self.bound = 0  # how many functions bound to the frame are running
        self.part: Rows | None = None  # the rows that the running module is given, where these are not all
        self.computed: dict[int, Any] = {}  # of several adapters of peft, the layers that ran, by identity
        self.memo: dict[Any, Any] = {}  # what sites of this pass have in common, such as a gate for a whole layer
        self.gates: dict[int, Tensor] = {}  # the values of gates in peft's layers, by identity
        self.repeats: Any = None  # the rows that have the same inputs, see `shared_trunk`
        self.settings: Any = None  # the pass that the configuration's labels are set for, see `shown_labels`

    def norm(self, index: int) -> Override | None:
        """The norm with the map's ``index`` as it is in this call, ``None`` where no adapter replaces it."""
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
        """Inside, modules are given only some of the rows."""
        before, self.part = self.part, rows
        try:
            yield
        finally:
            self.part = before

    def add_loss(self, loss: Tensor) -> None:
        """Add an extra loss, a scalar; when a block is recomputed it has been added before.

        Raises:
            AttachError: If it has no gradient though this forward pass records them: reentrant checkpointing runs a block
                without, and the loss would train nothing.
        """
        if self.opener is None:
            return
        if self.graded and not torch.is_grad_enabled():
            raise AttachError(
                f"something in {self.plan.composition!r} has a loss of its own, and the block that it is in runs without "
                "gradients, as reentrant checkpointing does: the loss would train nothing; call "
                "gradient_checkpointing_enable({'use_reentrant': False}), or give that loss the weight 0"
            )
        self.losses.append(loss)

    def snapshot(self) -> Frame:
        """A frame that replays from here on: same plan and inputs, its own counters, the taps as they are."""
        copy = Frame(self.plan, None, self.call)
        copy.taps = dict(self.taps)
        copy.counts = dict(self.counts)
        return copy
