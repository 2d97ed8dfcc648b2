"""The folders of peft and of AdapterHub's library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import graftwork as gw
from graftwork.heads import Classification
from tests.checkpoint.common import added, moved
from tests.fuzz.readers.reader import Reader
from tests.support.loading import Loading, with_heads
from tests.zoo.models import ZooModel, build


def readers() -> list[Reader]:
    """All of them."""
    load = Loading()
    found = [Reader(name, _written(form, make), load) for name, (form, make) in WHAT.items()]
    found.append(Reader("AdapterHub safetensors", _as_safetensors(_written("adapterhub", _standard)), load))
    found.append(
        Reader("AdapterHub fusion", _written("adapterhub", lambda a: (_setup(a), "a,b")[1]), Loading(stays=_pool))
    )
    found.append(Reader("AdapterHub head", _written("adapterhub", _headed, with_heads), Loading(with_heads)))
    return found


def _written(
    form: str, make: Callable[[gw.Adapters], Any], model: Callable[[], ZooModel] = lambda: build("bert_classifier")
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        adapters = gw.attach(model().model)
        what = make(adapters)
        moved(adapters, *(name for name in adapters.names if name not in "ab"), *adapters.fusions)
        adapters.save(what, folder, format=form)

    return write


def _as_safetensors(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same, with its tensors in the newer form."""

    def rewrite(folder: Path) -> None:
        write(folder)
        for path in folder.glob("pytorch_*.bin"):
            safetensors.torch.save_file(torch.load(path), folder / f"{path.stem.removeprefix('pytorch_')}.safetensors")
            path.unlink()
        (folder / "model_head.safetensors").unlink(missing_ok=True)
        (folder / "head_config.json").unlink(missing_ok=True)

    return rewrite


def _add(config: Callable[[], Any], **options: Any) -> Callable[[gw.Adapters], str]:
    def add(adapters: gw.Adapters) -> str:
        adapters.add("one", config(), **options)
        return "one"

    return add


def _of_peft(**values: Any) -> Callable[[], gw.Peft]:
    return lambda: gw.Peft(peft=values)


def _standard(adapters: gw.Adapters) -> str:
    return _add(lambda: gw.Standard(reduction_factor=8, norm_before=True, scale="learned"))(adapters)


def _pool(adapters: gw.Adapters) -> None:
    added(adapters, a=gw.Pfeiffer(reduction_factor=8), b=gw.Pfeiffer(reduction_factor=8))


def _setup(adapters: gw.Adapters) -> gw.Stack:
    _pool(adapters)
    block = gw.Fuse("a", "b", name="a,b")
    adapters.add_fusion(block)
    return gw.Stack("a", block)


def _headed(adapters: gw.Adapters) -> str:
    adapters.add("one", gw.Pfeiffer(reduction_factor=8))
    adapters.add_head("one", Classification(labels=("x", "y"), hidden_layers=1))
    return "one"


WHAT: dict[str, tuple[str, Callable[[gw.Adapters], Any]]] = {
    "peft lora": ("peft", _add(lambda: gw.LoRA(rank=2, targets=["query", "value"]))),
    "peft ia3": ("peft", _add(lambda: gw.IA3(targets=["query", "value"]))),
    "peft hra": ("peft", _add(_of_peft(peft_type="HRA", r=2, target_modules=["query"]))),
    "AdapterHub bottleneck": ("adapterhub", _standard),
    "AdapterHub invertible": ("adapterhub", _add(lambda: gw.InvertiblePfeiffer(reduction_factor=8))),
    "AdapterHub compacter": ("adapterhub", _add(lambda: gw.Compacter(n=4, norms="base"))),
    "AdapterHub lora": ("adapterhub", _add(lambda: gw.LoRA(rank=2, targets=["query", "value"]))),
    "AdapterHub prefix": ("adapterhub", _add(_of_peft(peft_type="PREFIX_TUNING", num_virtual_tokens=3))),
    "AdapterHub setup": ("adapterhub", _setup),
}
