"""What predictions say of a run: made of data and predictions, kept, and read where the data are gone."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import precision_recall_fscore_support

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, run
from graftwork.experiments.comparing.evidence import FILE
from graftwork.experiments.running.folder import read_predictions
from graftwork.report import gather, write_page
from graftwork.report.formatting import line_label
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
    answers = {kind: answers_of(folder, kind)[0] for kind in ("fusion", "adapter")}
    gold = answers_of(folder, "fusion")[1]
    for kind, seeds in answers.items():
        hits = sum(p == g for values in seeds for p, g in zip(values, gold, strict=True))
        counts = target["confusion"][kind]
        assert sum(counts[n][n] for n in range(2)) == hits and sum(map(sum, counts)) == 2 * len(gold)
    right = {kind: [all(v[n] == g for v in seeds) for n, g in enumerate(gold)] for kind, seeds in answers.items()}
    gained = [n for n in range(len(gold)) if right["fusion"][n] and not right["adapter"][n]]
    assert [one["row"] for one in target["changed"] if one["better"]] == gained[:12] and target["gained"] == len(gained)


def answers_of(folder: Path, kind: str) -> tuple[list[list[str]], list[str]]:
    """What each seed answered, and what is right."""
    gold = [json.loads(line)["label"] for line in (folder / "a" / "dev.jsonl").read_text().splitlines()]
    units = folder / "run" / "units" / kind / "a"
    return [read_predictions(units / str(seed))["a"] for seed in (0, 1)], gold


def test_the_interval_of_a_mean_is_that_of_scipy(folder: Path) -> None:
    (target,) = gather(folder / "run", evidence=True).known
    for one in target["lines"]:
        seeds, gold = answers_of(folder, one["line"])
        rows = np.mean([[p == g for p, g in zip(values, gold, strict=True)] for values in seeds], axis=0)
        if rows.std():
            made = scipy.stats.bootstrap((rows,), np.mean, n_resamples=10_000, method="percentile", rng=1)
            theirs = made.confidence_interval
            step = 1 / len(gold) + 1e-9  # scores of few rows have steps, and a quantile may be on either side of one
            assert (one["low"], one["high"]) == pytest.approx((theirs.low, theirs.high), abs=step)


def test_every_figure_of_the_page_is_one_of_the_files(folder: Path) -> None:
    found = gather(folder / "run", evidence=True)
    (target,) = found.known
    text = html.unescape(write_page(folder / "run").read_text())
    means = {row["kind"]: 100 * row["mean"] for row in found.results["targets"]}
    gap = next(one["against"] for one in target["lines"] if one["line"] == "adapter")
    value, low, high = (
        f"{100 * gap[key]:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0") for key in ("value", "low", "high")
    )
    assert f"accuracy {means['fusion']:.1f} against {means['adapter']:.1f}: {value} [{low}, {high}] points" in text
    assert "20 dev rows" in text and "of the mean over 2 seeds" in text
    for row in found.results["targets"]:
        assert f"{100 * row['mean']:.1f} ± {100 * row['sd']:.1f}</td>" in text
        assert f"<title>{line_label(row)}: {100 * row['mean']:.4g}</title>" in text  # of its bar
    for kind in ("fusion", "adapter"):
        seeds, gold = answers_of(folder, kind)
        values, right = [one for of_seed in seeds for one in of_seed], gold * len(seeds)
        scores = precision_recall_fscore_support(right, values, labels=target["labels"], zero_division=0)
        name = found.names("a")[kind]
        for n, label in enumerate(target["labels"]):
            cells = [
                label,
                name,
                f"{100 * right.count(label) / len(right):.1f}",
                *(f"{100 * s[n]:.1f}" for s in scores[:3]),
            ]
            assert re.search("".join(rf"<td[^>]*>{re.escape(cell)}</td>" for cell in cells), text)
    (fusion,) = (one for one in found.results["units"] if one["unit"] == "fusion/a/0")
    first = fusion["attention"]["examples"][0]
    for token, weights in zip(first["tokens"], first["weights"], strict=True):
        assert re.search(
            rf"<td[^>]*>{re.escape(token)}</td>" + "".join(rf"<td[^>]*>{w:.2f}</td>" for w in weights), text
        )


def test_with_folds_each_seed_is_of_its_own_rows(tmp_path: Path) -> None:
    path = make_tiny(tmp_path, SHORT.replace('data = "a"\n', 'data = "a"\nfolds = 2\n', 1))
    run(Recipe.read(path), tmp_path / "run", root=tmp_path)
    found = gather(tmp_path / "run", evidence=True)
    (target,) = found.known
    assert target["folds"] == 2 and target["rows_scored"] == 68 and target["seeds"] == [0, 1]  # 48 + 20
    for kind in ("fusion", "adapter"):
        assert sum(map(sum, target["confusion"][kind])) == 68
    means = {row["kind"]: row["mean"] for row in found.results["targets"]}
    assert np.mean(target["by_seed"]) == pytest.approx(means["fusion"] - means["adapter"])
    assert all(0 <= one["row"] < 68 for one in target["changed"])
    assert "Cross-validation in 2 folds" in write_page(tmp_path / "run").read_text()


def test_it_is_kept_for_a_report_without_the_data(folder: Path) -> None:
    first = gather(folder / "run", evidence=True).evidence
    shutil.rmtree(folder / "a")
    assert gather(folder / "run").evidence == first and (folder / "run" / FILE).is_file()
    (folder / "run" / FILE).unlink()
    found = gather(folder / "run", evidence=True)
    assert found.evidence is None and "a" in found.unknown
    assert "is not known" in write_page(folder / "run").read_text()


def test_an_old_run_without_predictions_and_tokens_has_a_page(folder: Path) -> None:
    for path in (folder / "run" / "units").rglob("predictions.json"):
        path.unlink()
    for path in (folder / "run" / "units").rglob("result.json"):
        result = json.loads(path.read_text())
        result.get("attention", {}).pop("examples", None)
        path.write_text(json.dumps(result))
    text = write_page(folder / "run").read_text()
    assert "predictions.json cannot be read" in text and "Where the fusion for a looks" in text
    assert "scores by label" not in text and "from wrong to right" not in text and 'class="tokens"' not in text
    assert not (folder / "run" / FILE).exists()


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
