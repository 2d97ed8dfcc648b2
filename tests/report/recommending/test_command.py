"""``graftwork recommend``: what it reads, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers as hf
from typer.testing import CliRunner, Result

from graftwork.cli import app
from tests.report.recommending.made_up import result_row, write_run
from tests.support.tiny_run import make_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with a tiny base, two tasks and the target a."""
    return make_tiny(tmp_path_factory.mktemp("recommend"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    hf.BertConfig(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=64).save_pretrained(
        folder
    )
    return str(folder)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["recommend", *(str(word) for word in words)])


def refused(*words: object) -> str:
    result = call(*words)
    assert result.exit_code == 1 and result.stdout == "" and isinstance(result.exception, SystemExit), result.output
    return result.stderr.strip()


def test_sizes_and_a_base_are_enough(base: str) -> None:
    told = call("--base", base, "--rows", "rte=2490", "--source", "mnli=392702")
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0] == f"rte: 2,490 rows, sources mnli (392,702); on {base}"
    assert lines[4].split()[:3] == ["ScaLearn", "1", "++"]
    assert lines[-1].startswith("ScaLearn stands first, by published figures")


def test_json_is_json_and_nothing_else(base: str) -> None:
    told = call("--base", base, "--rows", "rte=2490", "--json", "--weights", "2k", "--latency", "1.1", "--changing")
    (found,) = json.loads(told.stdout)
    assert found["needs"]["weights_a_task"] == 2000
    assert found["needs"]["latency"] == 1.1 and found["needs"]["changing"] is True
    ranks = {c["method"]: c["rank"] for c in found["choices"]}
    assert ranks["full"] is None and ranks["head"] is not None
    assert found["not_enough_to_tell"]


def test_a_recipe_gives_base_tasks_and_sources(tiny: Path) -> None:
    told = call(tiny, "--json")
    assert told.exit_code == 0, told.output
    (found,) = json.loads(told.stdout)
    assert found["needs"]["target"] == "a" and set(found["needs"]["sources"]) == {"b"}
    assert found["needs"]["tasks"]["a"] > 0 and found["needs"]["kind"] == "classification"
    other = json.loads(call(tiny, "--json", "--target", "b").stdout)[0]
    assert other["needs"]["target"] == "b" and other["needs"]["sources"] == {}
    named = json.loads(call(tiny, "--json", "--target", "b", "--source", "a").stdout)[0]
    assert named["needs"]["sources"] == {"a": found["needs"]["tasks"]["a"]}


def test_a_run_gives_its_figures(base: str, tmp_path: Path) -> None:
    rows = [result_row("adapter", 0.8), result_row("head", 0.5)]
    run = write_run(tmp_path / "run", rows, base=base)
    told = call("--run", run, "--rows", "t=700")
    assert told.exit_code == 0, told.output
    assert f"[measured here: run {run}, base {base}, 3 seeds]" in told.stdout
    assert "Pfeiffer stands first, by your own figures." in told.stdout
    without = call("--base", base, "--rows", "t=700")
    assert "measured here" not in without.stdout


def test_two_targets_are_two_advices(tiny: Path) -> None:
    both = tiny.parent / "both.toml"
    both.write_text(tiny.read_text().replace('targets = ["a"]', 'targets = ["a", "b"]'))
    found = json.loads(call(both, "--json").stdout)
    assert [one["needs"]["target"] for one in found] == ["a", "b"]


def test_what_cannot_be_read_is_refused_in_a_line(base: str, tmp_path: Path) -> None:
    rte = ("--base", base, "--rows", "rte=2490")
    assert refused(*rte, "--target", "mnli") == "the target 'mnli' is no task; the tasks are rte"
    assert "--rows 'rte' cannot be read; give a name and its training rows" in refused("--base", base, "--rows", "rte")
    assert "--source 'mnli' cannot be read" in refused(*rte, "--source", "mnli")
    assert "--weights 'few' cannot be read" in refused(*rte, "--weights", "few")
    assert "limited to 0.5; give a ratio" in refused(*rte, "--latency", "0.5")
    assert "there is no task; give a recipe, or the training rows" in refused("--base", base)
    assert "there are 2 tasks; say which" in refused(*rte, "--rows", "cb=250")
    assert "there is no base to count weights on" in refused("--rows", "rte=2490")
    assert "is no folder of a run" in refused(*rte, "--run", tmp_path)


def test_help_teaches() -> None:
    told = call("--help").stdout
    assert "graftwork recommend --base bert --rows rte=2490 --source mnli=392702" in told
    assert "Every reason is tied to a figure" in told
