"""Stand-ins: modules of an adapter that replace one of the base while it is active, its own norms and its own head.

A stand-in is one module for all rows, or one for each row. Norms of an adapter's own can be used alone, in a Stack (the last
that has one wins), or by rows; a weighing of adapters whose norms differ has no meaning and is refused, unless the block says
``norms="base"``. For heads see `graftwork.attach.model_head`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from graftwork.compose import BatchSplit, Block, Composition, MixedBatch, Replicate, Stack
from graftwork.compose.rows import Rows, assign, merge, take
from graftwork.errors import CompositionError
from graftwork.methods import NormModule

StandIns = nn.Module | tuple[Block, tuple["StandIns", ...]] | None


def norm_stand_ins(composition: Composition, own: Callable[[str], nn.Module | None]) -> StandIns:
    """The norm that each part of a composition uses: a module, ``None`` for the base's, or a block with one of these a child.

    Raises:
        CompositionError: If norms that differ would be weighed.
    """
    if composition is None:
        return None
    if isinstance(composition, str):
        return own(composition)
    children = tuple(norm_stand_ins(child, own) for child in composition.children)
    if all(child is None for child in children):
        return None
    if isinstance(composition, Stack):
        last = next(child for child in reversed(children) if child is not None)
        return (composition, children) if isinstance(last, tuple) else last
    if isinstance(composition, (BatchSplit, MixedBatch, Replicate)):
        return composition, children
    if composition.options.get("norms") == "base":
        return None
    if all(child is children[0] for child in children):
        return children[0]
    raise CompositionError(
        f"{composition!r} weighs adapters that own different norms of the model, which has no meaning; train the adapters "
        'without norms of their own, such as gw.Houlsby(norms="base"), or give the block norms="base" to use the base\'s norms'
    )


def inputs_of(program: StandIns) -> tuple[str, ...]:
    """The names of the model's inputs that the stand-ins of a program read."""
    if isinstance(program, tuple):
        return tuple(dict.fromkeys(name for child in program[1] for name in inputs_of(child)))
    return program.inputs if isinstance(program, NormModule) else ()


Run = Callable[..., Tensor]
Inputs = Mapping[str, Tensor]


class Override:
    """A module of the base as it is in this call: itself, one stand-in, or one for each row."""

    def __init__(
        self,
        base: nn.Module,
        run: Run,
        choice: nn.Module | tuple[nn.Module | None, ...] | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        self.base = base  # its hooks do not run here
        self.run = run  # how a module is run on values, and on the inputs that it reads
        # What is entered around a module that runs on some of the rows.
        self.on_rows: Callable[[Rows], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
        self.inputs: Inputs = {} if inputs is None else inputs  # the model's inputs that the stand-ins read, by name
        if isinstance(choice, tuple) and all(c is choice[0] for c in choice):
            choice = choice[0] if choice else None
        self.choice = choice  # one module (None is the base's) for all rows, or a tuple with one for each row

    @classmethod
    def bound(
        cls,
        base: nn.Module,
        run: Run,
        program: StandIns,
        batch_size: int | None,
        beams: bool,
        inputs: Inputs | None = None,
    ) -> Override:
        """The stand-ins for a batch of ``batch_size`` rows.

        Raises:
            CompositionError: If rows are needed and the batch size is not known, or does not fit.
        """
        if not isinstance(program, tuple):
            return cls(base, run, program, inputs)
        if batch_size is None:
            raise CompositionError(
                "norms and heads by rows need the batch size, and the model's inputs do not agree on one"
            )
        for name, tensor in (inputs or {}).items():
            if len(tensor) != batch_size:
                raise CompositionError(
                    f"norms by rows need {batch_size} rows of the input {name!r}, which has {len(tensor)}"
                )
        return cls(base, run, by_row(program, batch_size, beams), inputs)

    def rows(self, rows: Rows) -> Override:
        """The same for some of the rows."""
        inputs = {name: take(tensor, rows, len(tensor)) for name, tensor in self.inputs.items()}
        if not isinstance(self.choice, tuple):
            return Override(self.base, self.run, self.choice, inputs) if inputs else self
        return Override(self.base, self.run, tuple(self.choice[row] for row in rows), inputs)

    def __call__(self, values: Tensor) -> Tensor:
        """The module's output for values with the rows first."""
        if not isinstance(self.choice, tuple):
            return self._run(self.choice, values)
        batch_size = len(self.choice)
        parts: list[tuple[Rows, Tensor | None]] = []
        for module in {id(c): c for c in self.choice}.values():
            rows = tuple(row for row, c in enumerate(self.choice) if c is module)
            with self.on_rows(rows):
                parts.append((rows, self.rows(rows)._run(module, take(values, rows, batch_size))))
        merged = merge(parts, next(part for _, part in parts if part is not None), batch_size, rows_of=values)
        assert merged is not None
        return merged

    def _run(self, module: nn.Module | None, values: Tensor) -> Tensor:
        return self.run(
            self.base if module is None else module, values, *(self.inputs[name] for name in inputs_of(module))
        )


def by_row(program: Any, batch_size: int, beams: bool) -> tuple[Any, ...]:
    """What each row uses, from a program whose leaves are modules or names; ``None`` for nothing of its own."""
    if not isinstance(program, tuple):
        return (program,) * batch_size
    block, children = program
    if isinstance(block, Stack):  # for each row the last that has one
        layers = [by_row(child, batch_size, beams) for child in children]
        return tuple(next((m for m in reversed(row) if m is not None), None) for row in zip(*layers, strict=True))
    assignment = assign(block, batch_size, beams=beams)
    inside = [list(by_row(child, assignment.count(n), beams)) for n, child in enumerate(children)]
    return tuple(inside[child].pop(0) for child in assignment)
