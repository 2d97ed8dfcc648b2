"""Recipes, the folders of runs with all their files, what is kept while something is trained, and maps of sites."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401 - pictures are made by it, in runs that have something to draw
import mpl_toolkits.mplot3d  # noqa: F401 - the same
import torch
from rich.console import Console

import graftwork as gw
from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, plan
from graftwork.experiments.running.checkpoints import last_finished
from graftwork.experiments.running.finder import KeptFinder, _write, read_finder
from graftwork.experiments.running.folder import ERROR, MADE_WITH, PREDICTIONS, read_error, read_predictions, root_of
from graftwork.experiments.running.hashes import hash_files
from graftwork.experiments.running.provenance import read_made_with
from graftwork.methods.registry import config_from_text
from graftwork.report import gather, print_tables, write_page, write_report
from graftwork.report.files import _figures
from graftwork.report.plots import png
from graftwork.report.recommending.measured import read_figures
from graftwork.training.task_head import TaskHead
from tests.fuzz.readers.reader import Reader
from tests.report.made_up import MANY, RECIPE, UNITS, comparison_of, many_result, many_results, results_of, unit_result
from tests.zoo.models import build


def readers() -> list[Reader]:
    """All of them."""
    return [
        Reader("recipe", _recipe, lambda folder: Recipe.read(folder / "recipe.toml").model_dump_json()),
        Reader("run", _run(RECIPE, lambda unit: unit_result(unit, 0.7), lambda: results_of(UNITS)), _show),
        Reader("run of many", _run(MANY, many_result, many_results), _show),
        Reader("records of a unit", _records, _read_records),
        Reader("finder", _finder, _read_finder),
        Reader("checkpoint", _checkpoint, _read_checkpoint),
        Reader("sites", _sites, _read_sites),
        Reader("method with options", _method, _read_method),
    ]


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
    draw = zlib.crc32((run / "results.json").read_bytes())
    print_tables(found, Console(file=StringIO()))
    read_figures(run)
    if draw % 5 == 0:  # the same again as files
        write_report(run, plots=False)
        write_page(run)
    if draw % 50 == 0:  # pictures take a second each
        for _, figure in _figures(found):
            png(figure)


def _records(folder: Path) -> None:
    unit = UNITS[0]
    here = unit.folder(folder)
    here.mkdir(parents=True)
    (folder / ".root").write_text(json.dumps({"root": "..", "was": "/nowhere", "bases": []}))
    made = {"base": "1", "tokenizer": "2", "rows": {"rte": "3"}, "over": {}, "versions": {"torch": "2"}, "files": None}
    (here / MADE_WITH).write_text(json.dumps(made))
    (here / PREDICTIONS).write_text(json.dumps({"rte": ["yes", "no", None]}))
    (here / ERROR).write_text("it failed\n\nTraceback …")


def _read_records(run: Path) -> Any:
    here = UNITS[0].folder(run)
    return read_made_with(here), read_predictions(here), read_error(here), str(root_of(run))


def _finder(folder: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    states = {task: torch.randn(8, 6, generator=draw) + n for n, task in enumerate("xyz")}
    _write(folder / "finder", KeptFinder(tuple("xyz"), TaskHead.fit(states), torch.ones(6), "hash"))


def _read_finder(folder: Path) -> Any:
    found = read_finder(folder / "finder")
    if found is None:
        raise RecipeError("there is none")
    return found.tasks, {name: t.numpy().tobytes() for name, t in found.head.tensors().items()}, found.texts


def _checkpoint(folder: Path) -> None:
    here = folder / "checkpoint-3"
    here.mkdir()
    state = {"global_step": 3, "epoch": 1.0, "best_global_step": 3, "log_history": [{"loss": 1.0}], "max_steps": 9}
    (here / "trainer_state.json").write_text(json.dumps(state))
    (here / "weights.bin").write_bytes(bytes(100))
    (here / "finished").write_text(json.dumps(hash_files(here)))


def _read_checkpoint(folder: Path) -> Any:
    """The checkpoint that training goes on from; one that is not whole is deleted."""
    with warnings.catch_warnings(record=True):
        found = last_finished(folder)
    if found is None:
        raise RecipeError("none of them is whole")
    return found.name


def _sites(folder: Path) -> None:
    (folder / "sites.json").write_text(gw.attach(build("bert_classifier").model).sites.to_json())


def _read_sites(folder: Path) -> Any:
    found = gw.SiteMap.from_json((folder / "sites.json").read_bytes().decode("utf-8", "replace"))
    return [(found.key_of(site), site.width, str(site.output)) for site in found.places]


def _method(folder: Path) -> None:
    (folder / "method.txt").write_text("pfeiffer[reduction_factor=8, activation='gelu', leave_out=[1, 2], scale=0.5]")


def _read_method(folder: Path) -> Any:
    return config_from_text((folder / "method.txt").read_bytes().decode("utf-8", "replace")).to_dict()


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
