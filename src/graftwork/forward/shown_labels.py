"""The labels in a model's configuration: those of the head in use.

Transformers reads them from the configuration (and from ``num_labels`` of the model): the model when it computes its loss, a
pipeline when it names what was predicted. There is one configuration for all threads, with the labels of the head that is
active for all of them. For a forward pass with labels that uses another head, in `using`, that head's labels are written into
it until the pass ends; passes of other threads in which heads differ wait. A pass whose thread died, or that was interrupted
where torch runs no hooks, blocks no other: its thread's stack shows that it has ended.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from types import FrameType
from typing import Any, Protocol

from torch import nn

from graftwork.forward.frame import Frame
from graftwork.forward.heads_in_use import Labels

_CALL = nn.Module._call_impl.__code__
_LOOK_AGAIN = 0.05  # seconds, after which a waiting pass looks whether the one before is still running
_changing = threading.Condition()
_turns: dict[
    int, list[Turn]
] = {}  # by the configuration's identity: the passes of one thread that it has the labels for


class LabelledModel(Protocol):
    """What labels need of the handle of an attached model; see `graftwork.attach.state`."""

    head_paths: tuple[str, ...]
    shown_labels: ShownLabels

    @property
    def task_model(self) -> nn.Module: ...

    @property
    def labels_differ(self) -> bool: ...

    @property
    def active_labels(self) -> str | None: ...

    def labels(self, name: str) -> Labels | None: ...

    def learned_problem_type(self, name: str | None, problem_type: str | None) -> None: ...


@dataclasses.dataclass(eq=False)
class Turn:
    """One forward pass with labels."""

    frame: Frame
    handle: LabelledModel
    name: str | None  # whose head the loss is computed for, None for the model's own
    thread: threading.Thread | None = None  # the thread that it runs in; None where no other pass has to wait for it


class ShownLabels:
    """The labels in one model's configuration."""

    def __init__(self, model: nn.Module) -> None:
        self.name: str | None = None  # whose labels they are, None for the model's own
        config = getattr(model, "config", None)
        self.own = Labels.of(config)  # the model's own labels
        # as they were written, to be put back exactly
        self._tables = getattr(config, "id2label", None), getattr(config, "label2id", None)

    def read(self, handle: LabelledModel) -> None:
        """Remember what the model, or its user, has written into the configuration since."""
        config: Any = handle.task_model.config
        now = Labels.of(config)
        if self.name is None:
            if now.names != self.own.names:
                self._tables = config.id2label, config.label2id
            self.own = now
        else:
            handle.learned_problem_type(self.name, now.problem_type)

    def write(self, handle: LabelledModel, name: str | None) -> None:
        """Write the labels of a head into the configuration."""
        model: Any = handle.task_model
        self.read(handle)
        labels = self.own if name is None else handle.labels(name)
        self.name = name
        if labels is None or labels == Labels.of(model.config):
            return
        config, names = model.config, labels.names
        config.id2label, config.label2id = dict(enumerate(names)), {label: n for n, label in enumerate(names)}
        if name is None:
            config.id2label, config.label2id = self._tables
        config.problem_type = labels.problem_type
        if hasattr(model, "num_labels"):
            model.num_labels = len(names)


def show(handle: LabelledModel) -> None:
    """Write the labels of the head that is active for all threads into the configuration."""
    if not handle.head_paths or not _says_labels(handle):
        return
    with _changing:
        if not _under_way(handle):  # else the last of them does when it ends
            handle.shown_labels.write(handle, handle.active_labels)


def begin(frame: Frame, handle: LabelledModel, name: str | None) -> None:
    """Write the labels that a forward pass computes its loss for into the configuration."""
    if not _says_labels(handle):
        return
    shown = handle.shown_labels
    if frame.compiled:  # compiled code knows no locks
        if shown.name != name:
            frame.settings = Turn(frame, handle, shown.name)  # the labels to write again afterwards
            shown.write(handle, name)
        return
    turn = frame.settings = Turn(frame, handle, name)
    if shown.name == name and not handle.labels_differ:
        return
    turn.thread = threading.current_thread()
    with _changing:
        while (others := _under_way(handle)) and others[0].thread is not turn.thread:
            _changing.wait(_LOOK_AGAIN)
        _turns.setdefault(id(handle.task_model.config), []).append(turn)
        shown.write(handle, name)


def end(frame: Frame) -> None:
    """End a forward pass: write the labels from before it into the configuration again."""
    turn: Turn | None = frame.settings
    frame.settings = None
    if turn is None:
        return
    if turn.frame.compiled:
        turn.handle.shown_labels.write(turn.handle, turn.name)
        return
    if turn.thread is None:
        turn.handle.shown_labels.read(turn.handle)
        return
    with _changing:
        _give_up(turn)


def _says_labels(handle: LabelledModel) -> bool:
    return hasattr(getattr(handle.task_model, "config", None), "id2label")


def _give_up(turn: Turn) -> None:
    key = id(turn.handle.task_model.config)  # type: ignore[attr-defined]  # `begin` has checked that there is one
    turns = _turns.get(key, [])
    if turn not in turns:
        return  # another thread has found it interrupted
    turns.remove(turn)
    turn.handle.shown_labels.read(turn.handle)
    if turns:
        turns[-1].handle.shown_labels.write(turns[-1].handle, turns[-1].name)
    else:
        del _turns[key]
        show(turn.handle)
    _changing.notify_all()


def _under_way(handle: LabelledModel) -> list[Turn]:
    """The passes that a model's configuration has the labels for; those that ended without their hook are removed."""
    key = id(handle.task_model.config)  # type: ignore[attr-defined]  # the callers have checked that there is one
    while (turns := _turns.get(key, [])) and not _runs(turns[-1]):
        _give_up(turns[-1])
    return turns


def _runs(turn: Turn) -> bool:
    thread = turn.thread
    if thread is None or thread.ident is None or not thread.is_alive():
        return False
    return runs_in(sys._current_frames().get(thread.ident), turn.frame.opener)


def runs_in(stack: FrameType | None, module: nn.Module | None, calls: int = 0) -> bool:
    """Whether a stack has more than ``calls`` calls of a module."""
    while stack is not None:
        if stack.f_code is _CALL and stack.f_locals.get("self") is module:
            if not calls:
                return True
            calls -= 1
        stack = stack.f_back
    return False
