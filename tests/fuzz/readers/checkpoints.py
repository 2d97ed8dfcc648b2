"""The folders that `save` writes: adapters of every kind, fusions, heads, compositions, a base, the state of a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import graftwork as gw
from graftwork.checkpoint import restore_progress, save_progress
from graftwork.heads import Classification
from tests.checkpoint.common import added, moved
from tests.fuzz.readers.reader import Reader
from tests.support.loading import Loading, LoadingBase, with_heads
from tests.zoo.models import ZooModel, build

Made = tuple[Callable[[], ZooModel], Callable[[gw.Adapters], Any]]


def readers() -> list[Reader]:
    """All of them."""
    plain = Loading()
    loads = {plain_bert: plain, with_heads: Loading(with_heads)}
    found = [Reader(name, _saved(*made), loads[made[0]], exact=True) for name, made in WHAT.items()]
    found.append(Reader("fusion alone", _fusion, Loading(stays=_pool), exact=True))
    found.append(Reader("base", _trained_base, LoadingBase(), exact=True))
    found.append(Reader("training", _training, Resuming()))
    return found


class Resuming:
    """Puts back the state of a training, and gives the weights; what was there before is as before."""

    def __init__(self) -> None:
        self.adapters = _in_training()

    def __call__(self, folder: Path) -> list[bytes]:
        known = [p for p in self.adapters.model.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in known]
        restore_progress(self.adapters, folder)
        found = [p.detach().numpy().tobytes() for p in known]
        with torch.no_grad():
            for p, old in zip(known, before, strict=True):
                p.copy_(old)
        return found


def _in_training() -> gw.Adapters:
    adapters = gw.attach(build("bert_classifier").model)
    added(adapters, a=gw.Houlsby(reduction_factor=8))
    adapters.train_only("a", base="norms")
    return adapters


def _training(folder: Path) -> None:
    adapters = _in_training()
    moved(adapters, "a")
    save_progress(adapters, folder)


def plain_bert() -> ZooModel:
    return build("bert_classifier")


def _saved(model: Callable[[], ZooModel], what: Callable[[gw.Adapters], Any]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        adapters = gw.attach(model().model)
        made = what(adapters)
        moved(adapters, *adapters.names, *adapters.fusions)
        adapters.save(made, folder)

    return save


def _one(config: Any, **options: Any) -> Callable[[gw.Adapters], str]:
    def add(adapters: gw.Adapters) -> str:
        adapters.add("a", config() if callable(config) else config, **options)
        return "a"

    return add


def _peft(adapters: gw.Adapters) -> str:
    import peft

    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights="gaussian")
    adapters.add("lora", config, native=False)
    return "lora"


def _prompt(adapters: gw.Adapters) -> str:
    adapters.add("prompt", gw.Peft(peft={"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}))
    return "prompt"


def _head(adapters: gw.Adapters) -> str:
    adapters.add_head("h", Classification(labels=("x", "y", "z"), hidden_layers=1))
    return "h"


def _pool(adapters: gw.Adapters) -> gw.Fuse:
    added(adapters, a=gw.Pfeiffer(reduction_factor=8), b=gw.Pfeiffer(reduction_factor=8))
    return gw.Fuse("a", "b", name="ab")


def _whole(adapters: gw.Adapters) -> gw.Stack:
    block = _pool(adapters)
    adapters.add_fusion(block)
    return gw.Stack(block)


def _concat(adapters: gw.Adapters) -> gw.Stack:
    _pool(adapters)
    adapters.add_fusion(block := gw.Concat("a", "b", name="k"))
    return gw.Stack(block)


def _fusion(folder: Path) -> None:
    adapters = gw.attach(build("bert_classifier").model)
    adapters.add_fusion(_pool(adapters))
    moved(adapters, "ab")
    adapters.save("ab", folder)


def _trained_base(folder: Path) -> None:
    zoo = build("bert_classifier")
    adapters = gw.attach(zoo.model)
    adapters.train_only(None, base="norms")
    with torch.no_grad():
        for p in zoo.model.parameters():
            if p.requires_grad:
                p.add_(0.1)
    adapters.save_base(folder)


_PATTERN = {"layer.0.attention.self.query": 3}
WHAT: dict[str, Made] = {
    "adapter": (plain_bert, _one(gw.Houlsby(reduction_factor=8))),
    "compacter": (plain_bert, _one(gw.CompacterPlusPlus(n=4))),
    "lora": (plain_bert, _one(gw.LoRA(rank=2, targets=["query", "value"], rank_pattern=_PATTERN))),
    "hyperformer": (plain_bert, _one(gw.HyperformerPlusPlus(tasks=("x", "y")))),
    "k-adapter": (plain_bert, _one(gw.KAdapter(size=24, heads=4, inner=32))),
    "experts": (plain_bert, _one(gw.MoE(experts=3, bottleneck_size=2))),
    "union": (plain_bert, _one(lambda: gw.MAM(prefix_tokens=3, prefix_size=4, bottleneck_size=4))),
    "peft": (plain_bert, _peft),
    "prompt": (plain_bert, _prompt),
    "head": (with_heads, _head),
    "composition": (plain_bert, _whole),
    "concatenation": (plain_bert, _concat),
}
