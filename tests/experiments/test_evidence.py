"""What predictions say of a run: made of data and predictions, kept, and read where the data are gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, run
from graftwork.experiments.comparing.evidence import FILE
from graftwork.experiments.running.folder import read_predictions
from graftwork.report import gather, write_page
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = RECIPE.replace("copies = 2", 'controls = ["head"]\nseeds = [0, 1]').replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    run(Recipe.read(make_tiny(folder, SHORT)), folder / "run", root=folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_it_is_of_the_fusion_against_the_single_adapter(folder: Path) -> None:
    found = gather(folder / "run", evidence=True)
    assert found.evidence is not None
    (target,) = found.evidence["targets"]
    assert (target["subject"], target["control"], target["seeds"]) == ("fusion", "adapter", [0, 1])
    assert {one["line"] for one in target["lines"]} == {"head", "adapter", "fusion"}
    means = {row["kind"]: row["mean"] for row in found.results["targets"]}
    for one in target["lines"]:
        assert one["low"] <= means[one["line"]] <= one["high"]
        if one["line"] != "fusion":
            assert one["against"]["value"] == pytest.approx(means["fusion"] - means[one["line"]])


def test_counts_are_those_of_the_predictions(folder: Path) -> None:
    found = gather(folder / "run", evidence=True)
    (target,) = found.known
    gold = [json.loads(line)["label"] for line in (folder / "a" / "dev.jsonl").read_text().splitlines()]
    answers = {
        kind: [read_predictions(folder / "run" / "units" / kind / "a" / str(seed))["a"] for seed in (0, 1)]
        for kind in ("fusion", "adapter")
    }
    for kind, seeds in answers.items():
        hits = sum(p == g for values in seeds for p, g in zip(values, gold, strict=True))
        counts = target["confusion"][kind]
        assert sum(counts[n][n] for n in range(2)) == hits and sum(map(sum, counts)) == 2 * len(gold)
    right = {kind: [all(v[n] == g for v in seeds) for n, g in enumerate(gold)] for kind, seeds in answers.items()}
    gained = [n for n in range(len(gold)) if right["fusion"][n] and not right["adapter"][n]]
    assert [one["row"] for one in target["changed"] if one["better"]] == gained[:12] and target["gained"] == len(gained)


def test_it_is_kept_for_a_report_without_the_data(folder: Path) -> None:
    first = gather(folder / "run", evidence=True).evidence
    shutil.rmtree(folder / "a")
    assert gather(folder / "run").evidence == first and (folder / "run" / FILE).is_file()
    (folder / "run" / FILE).unlink()
    found = gather(folder / "run", evidence=True)
    assert found.evidence is None and "a" in found.unknown
    assert "is not known" in write_page(folder / "run").read_text()


def test_an_older_one_of_other_results_is_made_anew(folder: Path) -> None:
    gather(folder / "run", evidence=True)
    path = folder / "run" / FILE
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "units": {}, "targets": []}))
    assert gather(folder / "run").evidence is None
    assert gather(folder / "run", evidence=True).evidence == data


@pytest.mark.parametrize("content", ["{", '{"format": 1}', '{"format": 1, "units": {}, "targets": [{"task": "a"}]}'])
def test_a_damaged_one_is_refused_with_a_way_out(folder: Path, content: str) -> None:
    (folder / "run" / FILE).write_text(content)
    with pytest.raises(RecipeError, match="delete it"):
        gather(folder / "run")


def test_predictions_of_other_rows_tell_nothing(folder: Path) -> None:
    for path in (folder / "run" / "units" / "fusion").rglob("predictions.json"):
        path.write_text(json.dumps({"a": ["pos"]}))
    (target,) = gather(folder / "run", evidence=True).known
    assert (
        target["seeds"] == [] and "confusion" not in target and all(one["against"] is None for one in target["lines"])
    )


def test_tokens_of_a_few_rows_are_kept_with_the_attention(finished: Path) -> None:
    unit = next(one for one in gather(finished / "run").results["units"] if one["kind"] == "fusion")
    examples = unit["attention"]["examples"]
    first = json.loads((finished / "a" / "dev.jsonl").read_text().splitlines()[0])["text"]
    assert len(examples) == 4 and examples[0]["tokens"] == first.split()
    for one in examples:
        assert len(one["tokens"]) == len(one["weights"])
        assert all(sum(weights) == pytest.approx(1, abs=0.01) for weights in one["weights"])
