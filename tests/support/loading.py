"""Folders loaded onto a model and taken away again: the outputs with them are compared by their bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import graftwork as gw
from tests.zoo.models import ZooModel, build, main_output


class Loading:
    """Loads what `save` wrote and gives the outputs with it; the model is as before.

    Args:
        model: Makes the model.
        stays: Adds what the model has beside what is loaded, such as the pool of a fusion.
        other_base: Whether it may be another base, as in another library's files.
    """

    def __init__(
        self,
        model: Callable[[], ZooModel] = lambda: build("bert_classifier"),
        stays: Callable[[gw.Adapters], Any] = lambda adapters: None,
    ) -> None:
        self.zoo = model()
        self.adapters = gw.attach(self.zoo.model)
        stays(self.adapters)
        self._stays = {*self.adapters.names, *self.adapters.fusions, *self.adapters.lone_heads}

    def __call__(self, folder: Path) -> list[bytes]:
        composition = self.adapters.load(folder)
        try:
            members = self.adapters.members  # of one adapter that serves several tasks
            if composition in self.adapters.lone_heads:
                return [self.output(None, head=composition)]
            return [self.output(one) for one in members or (composition,)]
        finally:
            for name in (*self.adapters.fusions, *self.adapters.names, *self.adapters.lone_heads):
                if name not in self._stays:
                    self.adapters.remove(name)

    @torch.no_grad()
    def output(self, composition: gw.Composition, head: Any = None) -> bytes:
        """The output with a composition, as bytes."""
        with self.adapters.using(composition, head=head):
            found: bytes = main_output(self.zoo.model(**self.zoo.inputs)).numpy().tobytes()
        return found


class LoadingBase(Loading):
    """Loads the difference of a base and gives the outputs with it; the model is as before."""

    def __call__(self, folder: Path) -> list[bytes]:
        self.adapters.load_base(folder, keep=True)
        try:
            return [self.output(None)]
        finally:
            self.adapters.unload_base()


def with_heads() -> ZooModel:
    """A base model that takes heads by name."""
    zoo = build("bert")
    return ZooModel(zoo.name, gw.ModelWithHeads(zoo.model).eval(), zoo.inputs, zoo.expected)
