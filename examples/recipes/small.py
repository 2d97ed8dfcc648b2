"""Every recipe in small, to see that it runs: one epoch, few rows, one control; and one row predicted from its files.

python examples/recipes/small.py              # all of them, in a temporary folder
python examples/recipes/small.py ner images   # some
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers.utils import logging

from graftwork.experiments import Recipe, run
from graftwork.experiments.running.run import read_tasks
from graftwork.inference import Predictor
from graftwork.tasks import Prediction

HERE = Path(__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/recipe.toml"))
ROWS, DEV = 24, 16


def small(recipe: Recipe, folder: Path, dev: Path) -> Recipe:
    """A recipe with the same base, adapter, tasks and targets, and next to nothing to learn from.

    Args:
        recipe: The recipe.
        folder: Its folder.
        dev: Where the first few of its dev rows are written.
    """
    tables: dict[str, Any] = recipe.model_dump(mode="json", exclude_unset=True)
    for name, task in read_tasks(recipe, folder).items():
        path = dev / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in task.dev[:DEV]), encoding="utf-8")
        if name in recipe.knowledge:
            tables["knowledge"][name] |= {
                "triples": _few(folder / recipe.knowledge[name].triples, dev),
                "templates": {},
            }
        else:
            tables["tasks" if name in recipe.tasks else "languages"][name] |= {"rows": ROWS, "dev": str(path)}
    tables["training"] |= {"epochs": 1}
    for changes in tables["training"].values():
        if isinstance(changes, dict):
            changes.pop("epochs", None)
    return Recipe.make({**tables, "controls": [c for c in recipe.controls if c == "head"], "seeds": [0]})


def _few(triples: Path, folder: Path) -> str:
    """Only the first triples of a file."""
    path = folder / triples.name
    path.write_text("".join(triples.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS]), encoding="utf-8")
    return str(path)


def run_small(name: str, out: Path) -> tuple[dict[str, Any], Prediction]:
    """Run a recipe in small, and predict the first dev row in the files' own words.

    Args:
        name: Of the recipe's folder.
        out: An empty folder for everything that is written.

    Returns:
        What the run's ``results.json`` says, and the prediction.
    """
    folder = HERE / name
    if (folder / "prepare.py").is_file():  # it writes beside itself: not here, where a full one may be
        folder = Path(shutil.copytree(folder, out / name, ignore=shutil.ignore_patterns("out", "__pycache__")))
        shutil.copy(HERE / "words.py", out)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
        subprocess.run([sys.executable, str(folder / "prepare.py"), "--small"], check=True, env=environment)
    recipe = small(Recipe.read(folder / "recipe.toml"), folder, out)
    results = run(recipe, out / "run", root=folder)
    task = (recipe.targets or tuple(recipe.tasks))[0]
    row = read_tasks(recipe, folder)[task].dev[0]
    return results, Predictor(out / "run", task).predict([row])[0]


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as out:
            results, prediction = run_small(name, Path(out))
        print(f"{name}: {len(results['units'])} trainings; a prediction: {prediction.value!r}")


if __name__ == "__main__":
    main()
