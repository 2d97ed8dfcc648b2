"""A base with the adapters of its tasks, and what one thread computes with it: batches across tasks, and one row at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graftwork.api import Adapters
from graftwork.attach.planning import plan_of
from graftwork.compose import BatchSplit, Composition, Fuse, Learned, Route, fusions_in
from graftwork.errors import CompositionError, GraftworkError
from graftwork.forward.heads_in_use import OWN
from graftwork.forward.model_with_heads import HEAD_PATH
from graftwork.inference.chat import Shown
from graftwork.inference.task_finder import Found
from graftwork.report.attention import in_order
from graftwork.serving.refusals import RefusedError
from graftwork.tasks import Kind, Prediction, Rows
from graftwork.training.concatenated_batches import merged, padding_of
from graftwork.training.encoding import Feature, batch_of
from graftwork.training.outputs import autocast_as, generated
from graftwork.training.precision import Precision


@dataclasses.dataclass(eq=False)
class ServedTask:
    """A task, as one version of it is served: what is PUT later under its name is another one.

    Attributes:
        name: Its name.
        kind: Its kind, with its labels.
        base: The base that it is computed with.
        composition: What is computed for it.
        head: The head in use.
        source: What it was read from, for people.
        folder: The folder of its adapter, where it is one that was saved by itself.
        precision: What it is computed in.
        mixes: Whether it can be computed in one pass with other tasks; found when its adapter is there.
        form: What its head's logits need to be those of one pass with others'; found when its adapter is there.
        waiting: How many requests wait for it.
        removed: Whether it is no longer served, or by a later version.
    """

    name: str
    kind: Kind
    base: Base
    composition: Composition
    head: str
    source: str
    folder: Path | None = None
    precision: Precision = "float32"
    mixes: bool = False
    form: Hashable = None
    waiting: int = 0
    removed: bool = False

    @property
    def group(self) -> Hashable:
        """Tasks of equal groups can be computed in one pass."""
        if not self.mixes or self.drawn:
            return id(self)
        if self.kind.generates:
            return "tokens", self.precision, tuple(sorted(self.kind.generation().items()))
        return "logits", self.precision, self.form

    @property
    def drawn(self) -> bool:
        """Whether its answers are drawn at random, which depends on the batch."""
        return bool(self.kind.generates and self.kind.generation().get("do_sample"))

    @property
    def fusion(self) -> Learned | None:
        """The fusion that weighs its adapters token by token, where it has one."""
        return next((block for block in fusions_in(self.composition) if isinstance(block, (Fuse, Route))), None)


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A row of a task, read and made features of.

    Attributes:
        task: The task.
        rows: The row, alone.
        features: Its features.
        show: For an answer that is written: called with each piece of it, in the model's thread.
    """

    task: ServedTask
    rows: Rows
    features: Sequence[Feature]
    show: Callable[[str], None] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Looked(Asked):
    """A row for which is asked where the fusion of its task looks."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sought:
    """A text whose task is sought."""

    text: str


class Base:
    """A base and its adapters; everything but its attributes is used by one thread.

    Args:
        name: Its name, for those who add a task to one of several bases.
        adapters: The handle of the base.
        processor: What makes its inputs.
        max_length: The most tokens of a text, for tasks that say none.
        max_resident: How many adapters that were saved by themselves are in memory at a time, at most; the others are read when
            a row asks for them. By default all are.

    Attributes:
        find: Finds the tasks of texts; ``None`` where that is not possible.
    """

    def __init__(
        self,
        name: str,
        adapters: Adapters,
        processor: Any,
        max_length: int | None,
        max_resident: int | None = None,
    ) -> None:
        self.name, self.adapters, self.processor, self.max_length = name, adapters, processor, max_length
        self.find: Callable[[Sequence[str]], Sequence[Found]] | None = None
        most = sys.maxsize if max_resident is None else max_resident
        self.catalogue = adapters.catalogue({}, max_resident=most, head=True)
        adapters.activate(None)
        adapters.model.eval()

    # -- which tasks there are; their adapters are loaded where they are computed ------------------------------------

    def admit(self, task: ServedTask) -> None:
        """Make a task ready to be served: its adapter is read, and whether it can be computed with others is found.

        Raises:
            GraftworkError: If it cannot be computed.
        """
        if task.folder is not None:
            self.catalogue.add(str(task.composition), task.folder)
        try:
            plan_of(self.adapters, task.composition, task.head)  # refused now, not at its first request
        except BaseException:
            self.drop(task)
            raise
        task.mixes = self._mixes(task)
        head: Any = self.adapters.head_of(task.head).get(HEAD_PATH)
        task.form = head is not None and (head.takes_logits, head.decodes)

    def drop(self, task: ServedTask) -> None:
        """Take the adapter of a task off the model, if it is the task's alone; no request may wait for it."""
        if task.folder is not None:
            self.catalogue.remove(str(task.composition))

    def _mixes(self, task: ServedTask) -> bool:
        if task.composition is None:
            return False
        try:
            alone: Any = plan_of(self.adapters, task.composition, OWN)
            plan_of(self.adapters, BatchSplit(task.composition, None, batch_sizes=[1, 1]), OWN)
        except CompositionError:
            return False
        return bool(alone.named_heads == task.head)

    # -- what is computed --------------------------------------------------------------------------------------------

    def compute(self, asked: Sequence[Any]) -> list[Any]:
        """Return the result of each row of a batch, all of one group: a value, or the error of that row alone."""
        if isinstance(asked[0], Sought):
            return self._found([one.text for one in asked])
        tasks = list({id(one.task): one.task for one in asked}.values())
        try:
            with torch.no_grad(), autocast_as(self._model, tasks[0].precision)():
                if isinstance(asked[0], Looked):
                    return [self._attention(one) for one in asked]
                if asked[0].show is not None:
                    return [self._shown(one) for one in asked]
                if tasks[0].drawn and len(asked) > 1:  # each as if it was alone
                    return [found for one in asked for found in self.compute([one])]
                return self._answers(asked, tasks)
        except Exception as error:  # it is not known whose it is: of smaller and smaller parts
            if len(asked) == 1:
                return [error]
            if not isinstance(error, (GraftworkError, torch.OutOfMemoryError)):
                warnings.warn(
                    f"a batch of {len(asked)} rows failed and is computed in parts: {error!r:.300}", stacklevel=2
                )
            half = len(asked) // 2
            return [*self.compute(asked[:half]), *self.compute(asked[half:])]

    @property
    def _model(self) -> Any:
        return self.adapters.model

    def _answers(self, asked: Sequence[Asked], tasks: Sequence[ServedTask]) -> list[Any]:
        """The predictions of rows, from one pass."""
        of_task = {id(task): [n for n, one in enumerate(asked) if one.task is task] for task in tasks}
        features = [[f for n in of_task[id(task)] for f in asked[n].features] for task in tasks]
        outputs = (self._tokens if tasks[0].kind.generates else self._logits)(tasks, features)
        results: list[Any] = [None] * len(asked)
        for task, found in zip(tasks, outputs, strict=True):
            start = 0
            for n in of_task[id(task)]:
                stop = start + len(asked[n].features)
                results[n] = self._decoded(asked[n], found[start:stop])
                start = stop
        return results

    def _decoded(self, one: Asked, outputs: Sequence[Any]) -> Prediction | Exception:
        try:
            (prediction,) = one.task.kind.decode(outputs, one.features, one.rows, self.processor)
        except GraftworkError as error:
            return error
        return prediction

    def _logits(self, tasks: Sequence[ServedTask], features: Sequence[Sequence[Feature]]) -> list[list[Any]]:
        """The outputs of each task's features; all inputs are one batch, each row with its task's adapters and head."""
        batches = {
            str(n): batch_of(self._model, task.kind, some, self.processor)
            for n, (task, some) in enumerate(zip(tasks, features, strict=True))
        }
        inputs, labels = merged(batches, padding_of(self.processor))
        sizes = [next(len(value) for key, value in batch.items() if key != "labels") for batch in batches.values()]
        with self._using(tasks, sizes):
            output = self._model(**inputs)
        logits = [output.logits] if len(tasks) == 1 else [output.by_head[task.head].logits for task in tasks]
        return [
            list(task.kind.reduce(one, labels.get(str(n))).float().cpu())
            for n, (task, one) in enumerate(zip(tasks, logits, strict=True))
        ]

    def _tokens(self, tasks: Sequence[ServedTask], features: Sequence[Sequence[Feature]]) -> list[list[Any]]:
        """The tokens that are written for each task's features."""
        sizes = [len(some) for some in features]
        with self._using(tasks, sizes):
            every = [feature for some in features for feature in some]
            tokens = generated(self._model, tasks[0].kind, every, self.processor).cpu()
        return [list(part) for part in tokens.split(sizes)]

    def _using(self, tasks: Sequence[ServedTask], sizes: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        if len(tasks) == 1:
            return self.adapters.using(tasks[0].composition, head=tasks[0].head)
        return self.adapters.using(BatchSplit(*(task.composition for task in tasks), batch_sizes=sizes))

    def _shown(self, one: Asked) -> Prediction | Exception:
        """The prediction of a row whose pieces are shown while they are written."""
        assert one.show is not None
        streamer = Shown(self.processor, one.show)
        with self._using([one.task], [len(one.features)]):
            tokens = generated(self._model, one.task.kind, one.features, self.processor, streamer=streamer)
        return self._decoded(one, list(tokens.cpu()))

    def _found(self, texts: Sequence[str]) -> list[Any]:
        try:
            assert self.find is not None  # the service asks no other base
            return list(self.find(texts))
        except Exception as error:  # each row has its own, as in `compute`
            return [error] if len(texts) == 1 else [found for text in texts for found in self._found([text])]

    def _attention(self, one: Looked) -> dict[str, Any]:
        """Where a task's fusion looks for the first feature of a row: by token the weight of each adapter, at every site."""
        block = one.task.fusion
        if block is None:
            raise RefusedError(f"the task {one.task.name!r} has no fusion: it looks at its own adapter alone")
        batch = batch_of(self._model, one.task.kind, one.features[:1], self.processor)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        with self._using([one.task], [1]):
            by_site: Mapping[str, Tensor] = self.adapters.fusion_weights(**inputs)[block.name]
        labels = in_order(by_site)
        weights = {labels[site]: by_site[site][0].float().cpu().tolist() for site in labels}
        tokens = self.processor.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
        return {"tokens": tokens, "adapters": [str(child) for child in block.children], "sites": weights}
