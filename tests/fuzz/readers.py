"""Every reader of files from elsewhere, each with a good file to begin with."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import graftwork as gw
from tests.checkpoint.common import moved
from tests.zoo.models import build, main_output


@dataclasses.dataclass
class Reader:
    """One.

    Attributes:
        name: Its name.
        make: Writes what it reads into a folder.
        read: Reads that, and gives what can be compared.
        exact: Whether everything that it says is under a hash: damage is refused, or changes nothing.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    exact: bool = False


class Loading:
    """Reads what `save` wrote onto a model, and gives the output with it; the model is as before."""

    def __init__(self, *, base: bool = False) -> None:
        self.zoo = build("bert_classifier")
        self.grafts = gw.attach(self.zoo.model)
        self.base = base
        self.before = self.output() if base else None

    def __call__(self, folder: Path) -> Any:
        if self.base:
            self.grafts.load_base(folder, keep=True)
            try:
                return self.output()
            finally:
                self.grafts.unload_base()
        composition = self.grafts.load(folder)
        try:
            members = self.grafts.members  # of one adapter that serves several tasks
            outputs = []
            for one in members or (composition,):
                with self.grafts.using(one, head=None):
                    outputs.append(self.output())
            return outputs
        finally:
            for fusion in list(self.grafts.fusions):
                self.grafts.remove(fusion)
            for name in self.grafts.names:
                self.grafts.remove(name)

    @torch.no_grad()
    def output(self) -> Any:
        return main_output(self.zoo.model(**self.zoo.inputs)).numpy().tobytes()


def readers() -> list[Reader]:
    """All of them."""
    load = Loading()
    found = [Reader(name, _saved(what), load, exact=True) for name, what in WHAT.items()]
    found.append(Reader("base", _trained_base, Loading(base=True), exact=True))
    return found


def _trained_base(folder: Path) -> None:
    zoo = build("bert_classifier")
    grafts = gw.attach(zoo.model)
    grafts.train_only(None, base="norms")
    with torch.no_grad():
        for p in zoo.model.parameters():
            if p.requires_grad:
                p.add_(0.1)
    grafts.save_base(folder)


def _peft(grafts: gw.Adapters) -> Any:
    import peft

    grafts.add("lora", peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights="gaussian"))
    return "lora"


def _adapter(grafts: gw.Adapters) -> Any:
    grafts.add("a", gw.Houlsby(reduction_factor=8))
    return "a"


def _compacter(grafts: gw.Adapters) -> Any:
    grafts.add("c", gw.CompacterPlusPlus(n=4))
    return "c"


def _hyper(grafts: gw.Adapters) -> Any:
    grafts.add("h", gw.HyperformerPlusPlus(tasks=("x", "y")))
    return "h"


def _whole(grafts: gw.Adapters) -> Any:
    for name in "ab":
        grafts.add(name, gw.Pfeiffer(reduction_factor=8))
    block = gw.Fuse("a", "b", name="ab")
    grafts.add_fusion(block)
    return gw.Stack(block)


WHAT: dict[str, Callable[[gw.Adapters], Any]] = {
    "adapter": _adapter,
    "compacter": _compacter,
    "hyperformer": _hyper,
    "peft": _peft,
    "composition": _whole,
}


def _saved(what: Callable[[gw.Adapters], Any]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        grafts = gw.attach(build("bert_classifier").model)
        made = what(grafts)
        for name in (*grafts.names, *grafts.fusions):
            with contextlib.suppress(Exception):
                moved(grafts, name)
        grafts.save(made, folder)

    return save
