"""Every reader of files from elsewhere, each with a good file to begin with."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import zlib
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas
import torch
from PIL import Image
from rich.console import Console

import graftwork as gw
from graftwork.experiments import Recipe, plan
from graftwork.report import gather, print_tables, write_page, write_report
from graftwork.report.files import _figures
from graftwork.report.plots import png
from graftwork.report.recommending.measured import read_figures
from graftwork.tasks import Task, TaskSpec
from graftwork.tasks.cells import Cells
from graftwork.tasks.images import read_image
from tests.checkpoint.common import moved
from tests.report.made_up import MANY, RECIPE, UNITS, comparison_of, many_result, many_results, results_of, unit_result
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
        self.adapters = gw.attach(self.zoo.model)
        self.base = base
        self.before = self.output() if base else None

    def __call__(self, folder: Path) -> Any:
        if self.base:
            self.adapters.load_base(folder, keep=True)
            try:
                return self.output()
            finally:
                self.adapters.unload_base()
        composition = self.adapters.load(folder)
        try:
            members = self.adapters.members  # of one adapter that serves several tasks
            outputs = []
            for one in members or (composition,):
                with self.adapters.using(one, head=None):
                    outputs.append(self.output())
            return outputs
        finally:
            for fusion in list(self.adapters.fusions):
                self.adapters.remove(fusion)
            for name in self.adapters.names:
                self.adapters.remove(name)

    @torch.no_grad()
    def output(self) -> Any:
        return main_output(self.zoo.model(**self.zoo.inputs)).numpy().tobytes()


def readers() -> list[Reader]:
    """All of them."""
    load = Loading()
    found = [Reader(name, _saved(what), load, exact=True) for name, what in WHAT.items()]
    found += [Reader(name, _of_another(form, make), load) for name, (form, make) in OTHERS.items()]
    found.append(Reader("base", _trained_base, Loading(base=True), exact=True))
    found.append(Reader("recipe", _recipe, lambda folder: Recipe.read(folder / "recipe.toml").model_dump_json()))
    found.append(Reader("run", _run(RECIPE, lambda unit: unit_result(unit, 0.7), lambda: results_of(UNITS)), _show))
    found.append(Reader("run of many", _run(MANY, many_result, many_results), _show))
    return found + [Reader(f"task {name}", write, _read_task(kind)) for name, (kind, write) in TASKS.items()]


def _trained_base(folder: Path) -> None:
    zoo = build("bert_classifier")
    adapters = gw.attach(zoo.model)
    adapters.train_only(None, base="norms")
    with torch.no_grad():
        for p in zoo.model.parameters():
            if p.requires_grad:
                p.add_(0.1)
    adapters.save_base(folder)


def _peft(adapters: gw.Adapters) -> Any:
    import peft

    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights="gaussian")
    adapters.add("lora", config, native=False)
    return "lora"


def _lora(adapters: gw.Adapters) -> Any:
    adapters.add("n", gw.LoRA(rank=2, targets=["query", "value"], rank_pattern={"layer.0.attention.self.query": 3}))
    return "n"


def _of_another(format: str, make: Callable[[gw.Adapters], Any]) -> Callable[[Path], Any]:
    """Writes what another library reads."""

    def write(folder: Path) -> None:
        adapters = gw.attach(build("bert_classifier").model)
        what = make(adapters)
        moved(adapters, *adapters.names, *adapters.fusions)
        adapters.save(what, folder, format=format)

    return write


def _plain_compacter(adapters: gw.Adapters) -> Any:
    adapters.add("c", gw.Compacter(n=4, norms="base"))
    return "c"


def _prefix(adapters: gw.Adapters) -> Any:
    adapters.add("p", gw.Peft(peft={"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3}))
    return "p"


def _setup(adapters: gw.Adapters) -> Any:
    for name in "ab":
        adapters.add(name, gw.Pfeiffer(reduction_factor=8))
    adapters.add_fusion(gw.Fuse("a", "b", name="a,b"))
    return gw.Stack("a", gw.Fuse("a", "b", name="a,b"))


def _standard(adapters: gw.Adapters) -> Any:
    adapters.add("s", gw.Standard(reduction_factor=8, norm_before=True, scale="learned"))
    return "s"


def _plain_lora(adapters: gw.Adapters) -> Any:
    adapters.add("l", gw.LoRA(rank=2, targets=["query", "value"]))
    return "l"


def _adapter(adapters: gw.Adapters) -> Any:
    adapters.add("a", gw.Houlsby(reduction_factor=8))
    return "a"


def _compacter(adapters: gw.Adapters) -> Any:
    adapters.add("c", gw.CompacterPlusPlus(n=4))
    return "c"


def _hyper(adapters: gw.Adapters) -> Any:
    adapters.add("h", gw.HyperformerPlusPlus(tasks=("x", "y")))
    return "h"


def _whole(adapters: gw.Adapters) -> Any:
    for name in "ab":
        adapters.add(name, gw.Pfeiffer(reduction_factor=8))
    block = gw.Fuse("a", "b", name="ab")
    adapters.add_fusion(block)
    return gw.Stack(block)


WHAT: dict[str, Callable[[gw.Adapters], Any]] = {
    "adapter": _adapter,
    "compacter": _compacter,
    "lora": _lora,
    "hyperformer": _hyper,
    "peft": _peft,
    "composition": _whole,
}

# What other libraries read: the format, and what is written in it.
OTHERS: dict[str, tuple[str, Callable[[gw.Adapters], Any]]] = {
    "folder of peft": ("peft", _plain_lora),
    "AdapterHub bottleneck": ("adapterhub", _standard),
    "AdapterHub compacter": ("adapterhub", _plain_compacter),
    "AdapterHub lora": ("adapterhub", _plain_lora),
    "AdapterHub prefix": ("adapterhub", _prefix),
    "AdapterHub setup": ("adapterhub", _setup),
}


def _saved(what: Callable[[gw.Adapters], Any]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        adapters = gw.attach(build("bert_classifier").model)
        made = what(adapters)
        for name in (*adapters.names, *adapters.fusions):
            with contextlib.suppress(Exception):
                moved(adapters, name)
        adapters.save(made, folder)

    return save


def _run(recipe: Recipe, result: Callable[[Any], Any], results: Callable[[], Any]) -> Callable[[Path], None]:
    """A run that is done, with all its files."""

    def write(run: Path) -> None:
        files = {unit.folder(run) / "result.json": result(unit) for unit in plan(recipe)}
        files |= {run / "results.json": results(), run / "comparison.json": comparison_of()}
        files[run / "recipe.json"] = recipe.model_dump(mode="json", exclude_unset=True)
        for path, value in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value))

    return write


def _show(run: Path) -> None:
    found = gather(run)
    print_tables(found, Console(file=StringIO()))
    write_report(run, plots=False)
    write_page(run)
    if zlib.crc32((run / "results.json").read_bytes()) % 25 == 0:  # pictures take a second each
        for _, figure in _figures(found):
            png(figure)
    read_figures(run)


def _recipe(folder: Path) -> None:
    (folder / "recipe.toml").write_text(WHOLE_RECIPE)


WHOLE_RECIPE = """
targets = ["a"]
seeds = [0, 1]
copies = 2

[base]
model = "base"
max_length = 16

[adapter]
method = "pfeiffer"
reduction_factor = 4

[methods.lora]
method = "peft"
peft = {peft_type = "LORA", r = 4, target_modules = ["query"]}

[fusion]
dropout = 0.1

[tasks.a]
data = "a"
labels = ["neg", "pos"]
class_weights = "balanced"
description = "Is it good?"
prompts = ["what of this film"]

[tasks.b]
kind = "regression"
train = "b/train.csv"
rows = 100

[training]
epochs = 3
batch_size = 16
learning_rate = 1e-2
fusion = {learning_rate = 1e-3, epochs = 2}
"""
ROWS = [{"text": f"row {n}: a “good” film", "label": ("neg", "pos")[n % 2]} for n in range(12)]
ANSWERS = [
    {"question": f"who is {n}?", "context": f"it is {n} here", "answers": {"text": [str(n)], "answer_start": [6]}}
    for n in range(6)
]
DIALOGUES = [
    {"messages": [{"role": "user", "content": f"how much is {n}?"}, {"role": "assistant", "content": str(n)}]}
    for n in range(6)
]
WORDS = [{"tokens": ["New", "York", f"has {n}"], "tags": ["B-LOC", "I-LOC", "O"]} for n in range(8)]


def _read_task(kind: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        columns = {"messages": "messages"} if kind == "generation" else {}
        task = Task.read("t", TaskSpec(kind=kind, data=str(folder), **columns))  # type: ignore[call-arg,arg-type]
        for number, row in enumerate(task.train if kind == "image_classification" else ()):
            read_image(Cells(row, task.train.place(number), task.spec))
        return task.labels, [dict(row) for row in (*task.train, *task.dev)]

    return read


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _each(
    ending: str, written: Callable[[list[dict[str, Any]]], bytes], rows: list[dict[str, Any]]
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for part in ("train", "dev"):
            (folder / f"{part}{ending}").write_bytes(written(rows))

    return write


def _table(**style: Any) -> Callable[[list[dict[str, Any]]], bytes]:
    return lambda rows: pandas.DataFrame(rows).to_csv(index=False, **style).encode(style.get("encoding", "utf-8"))


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    found: bytes = pandas.DataFrame(rows).to_parquet(index=False)
    return found


def _conll(rows: list[dict[str, Any]]) -> bytes:
    sentences = [
        "".join(f"{w.replace(' ', '_')} {t}\n" for w, t in zip(r["tokens"], r["tags"], strict=True)) for r in rows
    ]
    return "\n".join(sentences).encode()


def _squad(rows: list[dict[str, Any]]) -> bytes:
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": str(n),
                    "question": row["question"],
                    "answers": [{"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}],
                }
            ],
        }
        for n, row in enumerate(rows)
    ]
    return json.dumps({"version": "1", "data": [{"title": "x", "paragraphs": paragraphs}]}).encode()


def _images(folder: Path) -> None:
    Image.init()  # Pillow loads all its formats when it meets a file of none, and what these need
    for part in ("train", "dev"):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for n in range(2):
                Image.new("RGB", (8, 8), (n, 50, 99)).save(folder / part / label / f"{n}.png")


def _saved_to_disk(folder: Path) -> None:
    import datasets

    datasets.DatasetDict({part: datasets.Dataset.from_list(ROWS) for part in ("train", "dev")}).save_to_disk(folder)


TASKS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "jsonl": ("classification", _each(".jsonl", lambda rows: _lines(rows).encode(), ROWS)),
    "json": ("classification", _each(".json", lambda rows: json.dumps(rows).encode(), ROWS)),
    "csv": ("classification", _each(".csv", _table(), ROWS)),
    "semicolons": ("classification", _each(".csv", _table(sep=";"), ROWS)),
    "tsv": ("classification", _each(".tsv", _table(sep="\t"), ROWS)),
    "utf-16": ("classification", _each(".csv", _table(encoding="utf-16"), ROWS)),
    "gzip": ("classification", _each(".jsonl.gz", lambda rows: gzip.compress(_lines(rows).encode()), ROWS)),
    "parquet": ("classification", _each(".parquet", _parquet, ROWS)),
    "saved": ("classification", _saved_to_disk),
    "conll": ("tagging", _each(".conll", _conll, WORDS)),
    "dialogues": ("generation", _each(".jsonl", lambda rows: _lines(rows).encode(), DIALOGUES)),
    "squad": ("question_answering", _each(".json", _squad, ANSWERS)),
    "images": ("image_classification", _images),
}
