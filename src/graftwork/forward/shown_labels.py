"""The labels that a model's configuration says: those of the head in use.

Transformers reads them from the configuration (and from ``num_labels`` of the model): the model when it computes its loss,
a pipeline when it names what was predicted. There is one configuration for all threads. It says the labels of the head that
is active for all of them. A forward pass with labels that uses another head, in `using`, has it say that one's until the
pass ends; passes of other threads in which heads differ wait. A pass whose thread died, or that was interrupted where torch
runs no hooks, holds nobody up: that it is under way no more is seen on its thread's stack.
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
_LOOK_AGAIN = 0.05  # seconds, after which one who waits looks whether the one before is still there
_changing = threading.Condition()
_turns: dict[int, list[Turn]] = {}  # by the configuration's identity: the passes that it speaks for, of one thread


class LabelledModel(Protocol):
    """What an attached model says of its labels."""

    head_paths: tuple[str, ...]
    shown_labels: ShownLabels

    @property
    def task_model(self) -> nn.Module:
        """The model that has the head and the labels."""

    @property
    def labels_differ(self) -> bool:
        """Whether some heads predict other labels than the model's own."""

    @property
    def active_labels(self) -> str | None:
        """The head whose labels the configuration says while no forward pass is under way."""

    def labels(self, name: str) -> Labels | None:
        """What the head of an adapter or a fusion predicts."""

    def learned_problem_type(self, name: str | None, problem_type: str | None) -> None:
        """Remember what a model made of a head's first labels."""


@dataclasses.dataclass(eq=False)
class Turn:
    """One forward pass with labels.

    Attributes:
        frame: Its frame.
        handle: The model's handle.
        name: Whose head the loss is computed for, ``None`` for the model's own.
        thread: The thread that it runs in; ``None`` where nobody has to wait for it.
    """

    frame: Frame
    handle: LabelledModel
    name: str | None
    thread: threading.Thread | None = None


class ShownLabels:
    """What one model's configuration says.

    Attributes:
        name: Whose labels it says, ``None`` for the model's own.
        own: The model's own labels.
    """

    def __init__(self, model: nn.Module) -> None:
        self.name: str | None = None
        config = getattr(model, "config", None)
        self.own = Labels.of(config)
        # as they were written, to be put back exactly
        self._tables = getattr(config, "id2label", None), getattr(config, "label2id", None)

    def read(self, handle: LabelledModel) -> None:
        """Take down what the model, or its user, has written into the configuration since."""
        config: Any = handle.task_model.config
        now = Labels.of(config)
        if self.name is None:
            if now.names != self.own.names:
                self._tables = config.id2label, config.label2id
            self.own = now
        else:
            handle.learned_problem_type(self.name, now.problem_type)

    def write(self, handle: LabelledModel, name: str | None) -> None:
        """Have the configuration say the labels of a head."""
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
    """Have the configuration say the labels of the head that is active for all threads."""
    if not handle.head_paths or not _says_labels(handle):
        return
    with _changing:
        if not _under_way(handle):  # else the last of them does, when it ends
            handle.shown_labels.write(handle, handle.active_labels)


def begin(frame: Frame, handle: LabelledModel, name: str | None) -> None:
    """Have the configuration say the labels that a forward pass computes its loss for."""
    if not _says_labels(handle):
        return
    shown = handle.shown_labels
    if frame.compiled:  # compiled code knows no locks
        if shown.name != name:
            frame.settings = Turn(frame, handle, shown.name)  # what is written again afterwards
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
    """The forward pass has ended: have the configuration say again what it says outside."""
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
    key = id(turn.handle.task_model.config)  # type: ignore[attr-defined]  # `begin` has looked
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
    """The passes that a model's configuration speaks for; those that have ended unseen are taken out."""
    key = id(handle.task_model.config)  # type: ignore[attr-defined]  # who calls has looked
    while (turns := _turns.get(key, [])) and not _runs(turns[-1]):
        _give_up(turns[-1])
    return turns


def _runs(turn: Turn) -> bool:
    thread = turn.thread
    if thread is None or thread.ident is None or not thread.is_alive():
        return False
    return runs_in(sys._current_frames().get(thread.ident), turn.frame.opener)


def runs_in(stack: FrameType | None, module: nn.Module | None, calls: int = 0) -> bool:
    """Whether a module is being called somewhere on a stack, apart from so many of its calls."""
    while stack is not None:
        if stack.f_code is _CALL and stack.f_locals.get("self") is module:
            if not calls:
                return True
            calls -= 1
        stack = stack.f_back
    return False
