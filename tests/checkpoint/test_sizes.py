"""Sizes that a small folder names are held against its tensors: every number of every method, head and block, in every format.

Each number in turn becomes a hundred million (one that divides, the inverse), and so does each option that is left out.
Loading must then fail at once with an error of the library's own; or succeed at once, where the number is none of a size.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.checkpoint.json_files import MANIFEST, dump
from graftwork.heads import Classification, MultipleChoice, Regression, TokenClassification
from tests.checkpoint.common import added
from tests.contract.cases import OPTIONS
from tests.fuzz.mutations import renewed
from tests.fuzz.watched import Watch
from tests.support.loading import with_heads
from tests.zoo.models import ZooModel, build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

SECONDS = 5.0  # on a busy machine
LARGE = 10**8
ELSEWHERE = {"residual_adapter", "self_modulation"}  # at convolutions, and in a generator
SMALL: dict[str, dict[str, Any]] = {
    "mam": {"prefix_tokens": 3, "prefix_size": 8, "bottleneck_size": 6},
    "unipelt": {"prefix_tokens": 3, "prefix_size": 8, "lora_rank": 4, "reduction_factor": 4},
    "hyperformer": {"tasks": ("x", "y")},
    "hyperformer_plus_plus": {"tasks": ("x", "y")},
}


def bert() -> ZooModel:
    return build("bert_classifier")


def _method(name: str, **options: Any) -> Callable[[gw.Adapters], str]:
    def add(adapters: gw.Adapters) -> str:
        adapters.add("one", gw.methods()[name](**{**OPTIONS.get(name, {}), **SMALL.get(name, {}), **options}))
        return "one"

    return add


def _peft(**values: Any) -> Callable[[gw.Adapters], str]:
    def add(adapters: gw.Adapters) -> str:
        adapters.add("one", gw.Peft(peft=values), **({"native": False} if values["peft_type"] == "LORA" else {}))
        return "one"

    return add


def _block(kind: Any) -> Callable[[gw.Adapters], gw.Stack]:
    def add(adapters: gw.Adapters) -> gw.Stack:
        added(adapters, a=gw.Pfeiffer(reduction_factor=8), b=gw.Pfeiffer(reduction_factor=8))
        adapters.add_fusion(block := kind("a", "b", name="a,b"))
        return gw.Stack("a", block)

    return add


def _head(head: Any) -> Callable[[gw.Adapters], str]:
    def add(adapters: gw.Adapters) -> str:
        adapters.add("one", gw.Pfeiffer(reduction_factor=8))
        adapters.add_head("one", head)
        return "one"

    return add


QUERY = {"target_modules": ["query"]}
PEFT: dict[str, Callable[[gw.Adapters], str]] = {
    "lora": _peft(peft_type="LORA", r=2, **QUERY),
    "ia3": _peft(peft_type="IA3", target_modules=["query", "dense"], feedforward_modules=["dense"]),
    "hra": _peft(peft_type="HRA", r=2, **QUERY),
    "oft": _peft(peft_type="OFT", oft_block_size=4, **QUERY),
    "vera": _peft(peft_type="VERA", r=4, **QUERY),
    "fourierft": _peft(peft_type="FOURIERFT", n_frequency=16, **QUERY),
    "loha": _peft(peft_type="LOHA", r=2, **QUERY),
    "lokr": _peft(peft_type="LOKR", r=2, **QUERY),
    "prefix": _peft(peft_type="PREFIX_TUNING", num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=5),
    "prompt": _peft(peft_type="PROMPT_TUNING", num_virtual_tokens=3),
    "p-tuning": _peft(peft_type="P_TUNING", num_virtual_tokens=3, encoder_hidden_size=5),
}
HEADS = {
    "classes": Classification(labels=("x", "y"), hidden_layers=1),
    "numbers": Regression(),
    "choices": MultipleChoice(choices=3),
    "tags": TokenClassification(labels=("x", "y")),
}
OURS: dict[str, tuple[Callable[[], ZooModel], Callable[[gw.Adapters], Any]]] = {
    **{name: (bert, _method(name)) for name in gw.methods() if name not in ELSEWHERE},
    **{f"peft {name}": (bert, add) for name, add in PEFT.items()},
    **{kind.__name__: (bert, _block(kind)) for kind in (gw.Fuse, gw.Concat, gw.Route, gw.ScaLearn)},
    **{f"head of {name}": (with_heads, _head(head)) for name, head in HEADS.items()},
}
THEIRS: dict[str, tuple[str, Callable[[], ZooModel], Callable[[gw.Adapters], Any]]] = {
    **{
        f"AdapterHub {m}": ("adapterhub", bert, _method(m))
        for m in ("standard", "pfeiffer", "parallel", "invertible_pfeiffer")
    },
    **{f"AdapterHub {m}": ("adapterhub", bert, _method(m, norms="base")) for m in ("compacter", "phm")},
    **{f"AdapterHub {m}": ("adapterhub", bert, _method(m, targets=("query", "value"))) for m in ("lora", "ia3")},
    "AdapterHub prefix": ("adapterhub", bert, PEFT["prefix"]),
    "AdapterHub fusion": ("adapterhub", bert, _block(gw.Fuse)),
    **{f"AdapterHub head of {name}": ("adapterhub", with_heads, _head(head)) for name, head in HEADS.items()},
    **{f"folder of peft {name}": ("peft", bert, PEFT[name]) for name in ("lora", "hra", "oft", "loha")},
}


@pytest.mark.parametrize("case", OURS)
def test_sizes_in_our_own_folders(case: str, tmp_path: Path) -> None:
    model, add = OURS[case]
    hostile(model, add, "graftwork", tmp_path)


@pytest.mark.parametrize("case", THEIRS)
def test_sizes_in_other_libraries_folders(case: str, tmp_path: Path) -> None:
    form, model, add = THEIRS[case]
    hostile(model, add, form, tmp_path)


def hostile(model: Callable[[], ZooModel], add: Callable[[gw.Adapters], Any], form: str, top: Path) -> None:
    """Write a folder, and load it with each of its numbers in turn become large."""
    adapters = gw.attach(model().model)
    what = add(adapters)
    adapters.save(what, top / "saved", format=form)
    here = gw.attach(model().model)
    here.load(top / "saved")
    clear(here)
    watch, slow, refused = Watch(), [], 0
    watch.run(lambda: here.load(top / "saved"), top)
    clear(here)
    paths = sorted((top / "saved").rglob("*.json"))
    for path in [path for path in paths if "fusions" in path.parts or "," in path.parts] or paths:
        good = {one: one.read_bytes() for one in (top / "saved").rglob("*.json")}
        for place, changed in _changed(json.loads(good[path])):
            path.write_bytes(dump(changed) if path.name == MANIFEST else json.dumps(changed).encode())
            renewed(top / "saved", good | {path: path.read_bytes()})
            start = time.perf_counter()
            found = watch.run(lambda: here.load(top / "saved"), top)
            took = time.perf_counter() - start
            slow += [(place, took)] if took > SECONDS else []
            refused += isinstance(found, gw.GraftworkError)
            assert isinstance(found, (str, gw.Stack, gw.GraftworkError)), (place, found)
            clear(here)
        for one, data in good.items():
            one.write_bytes(data)
    assert refused and not slow, slow


def clear(adapters: gw.Adapters) -> None:
    for name in (*adapters.fusions, *adapters.names, *adapters.lone_heads):
        adapters.remove(name)


def _changed(data: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The JSON values with each number, each option that is ``None`` and the labels become large; and where."""
    for place, value in _places(data, ()):
        changed = copy.deepcopy(data)
        node: Any = changed
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = 1 / LARGE if isinstance(value, float) or "reduction" in str(place[-1]) else LARGE
        yield place, changed


def _places(value: Any, here: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if here[-1:] == ("labels",) or value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        yield here, value
    elif isinstance(value, (dict, list)) and here not in (("base",), ("sites",)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*here, key))
