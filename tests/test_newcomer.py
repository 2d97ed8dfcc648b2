"""A newcomer's way, from an empty folder with a CSV to a served adapter, in fewer than ten commands."""

from __future__ import annotations

import csv
import json
import random
import urllib.request
from pathlib import Path

import pytest

from graftwork.inference import Predictor
from tests.support.command import call
from tests.support.tiny_run import make_base, make_row
from tests.support.tiny_serving import serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, and rows in two files: nothing of graftwork."""
    folder, draw = tmp_path_factory.mktemp("newcomer"), random.Random(0)
    make_base(folder / "base")
    for name, count in (("films", 120), ("labelled", 40)):
        rows = [make_row(draw) for _ in range(count)]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["sentence", "mood"], *([row["text"], row["label"]] for row in rows)])
    return folder


def test_from_a_csv_to_a_served_adapter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    commands = [
        "init films.csv --base base",
        "run recipe.toml --dry-run",
        "run recipe.toml",
        "show runs/recipe",
        "report runs/recipe",
        "evaluate runs/recipe --file labelled.csv --errors errors.csv --json scores.json",
        "predict runs/recipe --file labelled.csv --output predicted.csv",
    ]
    assert len(commands) + 1 <= 10, "and one to serve"
    for command in commands:
        done = call(*command.split())
        assert done.exit_code == 0, f"{command}\n{done.output}"
    assert (folder / "runs" / "recipe" / "report.html").is_file()
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["unit"] == "adapter/films/0" and scores["rows"] == 40
    with (folder / "predicted.csv").open(newline="") as file, (folder / "labelled.csv").open(newline="") as labelled:
        right = [
            p["prediction"] == g["mood"] for p, g in zip(csv.DictReader(file), csv.DictReader(labelled), strict=True)
        ]
    assert sum(right) / 40 == scores["metrics"]["accuracy"] > 0.6, "it has learnt something"

    text = "the film was good"
    (alone,) = Predictor("runs/recipe").predict([{"sentence": text}])
    with serving(Path("runs/recipe")) as running:
        body = json.dumps({"task": "films", "texts": [text]}).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{running.port}/v1/predict", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.load(answer)["predictions"][0]["value"] == alone.value
