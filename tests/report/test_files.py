"""The report of a real tiny run, and of one that is not done: what is written, and what it says."""

from __future__ import annotations

import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import graftwork.report.files
from graftwork.errors import GraftworkError, RecipeError
from graftwork.experiments import Recipe, plan, run
from graftwork.report import Live, gather, write_page, write_report
from graftwork.report.run_data import Gathered
from tests.report.made_up import MANY, many_results
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two adapters and a fusion, watched in a terminal; what was shown is beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    recipe = Recipe.read(make_tiny(folder, SHORT))
    console = Console(file=StringIO(), force_terminal=True, color_system=None, width=100, height=40)
    # no picture is left out, however slow the machine is
    with pytest.MonkeyPatch.context() as patch, Live(recipe, console) as live:
        patch.setattr("graftwork.report.live._PAUSE", 0.0)
        patch.setattr("graftwork.report.live._SHARE", 0)
        run(recipe, folder / "run", root=folder, watcher=live)
    (folder / "shown.txt").write_text(console.file.getvalue())
    return folder / "run"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The run, for a test to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_view_shows_a_real_run(finished: Path) -> None:
    text = (finished.parent / "shown.txt").read_text()
    assert "fusion · a · seed 0" in text and "step 3 of 3" in text and "epoch 1.0 of 1" in text
    last = text[text.rindex("task") :]
    score = 100 * gather(finished).results["targets"][-1]["mean"]
    assert "3 of 3 done" in last and f"● {score:.1f}" in last and "left" not in last


def test_a_report_of_a_whole_run_in_place_of_an_older_one(copy: Path) -> None:
    (copy / "plots").mkdir()
    for name in ("results.md", "plots/curves-a.png"):
        (copy / name).write_text("old")
    written = write_report(copy)
    plots = ["scores-a", "weights-a", "attention-a", "confusion-a", "curves-a", "curves-b"]
    names = ["results.md", "results.txt", *(f"{plot}.png" for plot in plots)]
    assert [path.name for path in written] == names and all(path.stat().st_size for path in written)
    page, text = (path.read_text() for path in written[:2])
    row = next(row for row in gather(copy).results["targets"] if row["kind"] == "fusion")
    assert f"| fusion of all 2 | {100 * row['mean']:.1f} | 1 | {row['trained_weights']:,} |" in page
    assert "All 3 trainings are done." in page and "All 3 trainings are done." in text
    assert "## a: accuracy on dev\n" in page and "## Sources: one adapter each" in page
    assert "![attention-a](plots/attention-a.png)" in page
    assert "fusion of all 2" in text and "not done yet" not in text
    assert written[3].read_bytes().startswith(b"\x89PNG")
    assert sorted(copy.rglob("*.png")) == sorted(written[2:]) and not list(copy.rglob("*.new"))


def test_a_report_of_a_run_that_is_not_done(copy: Path) -> None:
    shutil.rmtree(copy / "units" / "fusion")
    (copy / "results.json").unlink()  # a run that was killed is known by its units
    names = [path.name for path in write_report(copy)]
    plots = ["scores-a", "confusion-a", "curves-a", "curves-b"]
    assert names == ["results.md", "results.txt", *(f"{plot}.png" for plot in plots)]
    page = (copy / "results.md").read_text()
    assert "2 of 3 trainings are done." in page
    assert "| fusion of all 2 | not done yet | 0 of 1 |  |  |  |  |" in page


def test_a_report_of_a_run_that_has_only_begun(copy: Path) -> None:
    shutil.rmtree(copy / "units")
    assert [path.name for path in write_report(copy)] == ["results.md", "results.txt"]
    assert "0 of 3 trainings are done." in (copy / "results.txt").read_text()
    assert "a: nothing is done yet" in (copy / "results.txt").read_text()


def test_a_report_of_many_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Gathered(tmp_path, MANY, plan(MANY), many_results())
    monkeypatch.setattr(graftwork.report.files, "gather", lambda run, evidence: found)
    names = [path.stem for path in write_report(tmp_path)[2:]]
    targets = ["rte", "mrpc", "cola"]
    assert names == [
        *(f"{what}-{target}" for target in targets for what in ("scores", "weights")),
        *(f"attention_fusion_mt-{target}" for target in targets),
        "attention_fusion_mt",
        "forgetting-sequential",
        "forgetting-sequential_adapters",
        "forgetting",
        *(f"tasks-{kind}" for kind in ("sequential", "multitask", "mt_shared", "mt_joint", "sequential_adapters")),
        *(f"curves-{target}" for target in targets),
    ]
    page = (tmp_path / "results.md").read_text()
    assert "![forgetting-sequential](plots/forgetting-sequential.png)" in page
    assert "## Together against alone" in page and "| 3 | cola | 61.0 | 71.0 | 80.0 |" in page


MANY_TASKS = 'fuse = false\ncontrols = ["adapter", "mt_shared", "sequential_adapters"]\n' + RECIPE.replace(
    "epochs = 3", "epochs = 1"
).replace('["a"]', '["a", "b"]')


def test_a_real_run_on_all_tasks_is_shown(tmp_path: Path) -> None:
    lines = StringIO()
    recipe = Recipe.read(make_tiny(tmp_path, MANY_TASKS))
    with Live(recipe, Console(file=lines)) as live:
        results = run(recipe, tmp_path / "run", root=tmp_path, watcher=live)
    shared = next(unit for unit in results["units"] if unit["kind"] == "mt_shared")
    mean = (shared["tasks"]["a"]["score"] + shared["tasks"]["b"]["score"]) / 2
    said = f"mean of accuracy {100 * mean:.1f} %"
    assert f"  mt_shared/all-tasks/0 epoch 1 of 1: {said}" in lines.getvalue()  # while it learns, and when it is done
    assert f"ended mt_shared/all-tasks/0: {said} on dev" in lines.getvalue()
    assert [path.stem for path in write_report(tmp_path / "run")[2:]] == [
        *(f"{what}-{task}" for task in "ab" for what in ("scores", "weights")),
        "confusion-a",
        "confusion-b",
        "forgetting-sequential_adapters",
        "tasks-mt_shared",
        "tasks-sequential_adapters",
        "curves-a",
        "curves-b",
    ]
    page = write_page(tmp_path / "run").read_text()
    alone = {row["task"]: row["mean"] for row in results["targets"] if row["kind"] == "adapter"}
    assert (
        f'>{100 * alone["b"]:.1f}</td></tr>\n</tbody>\n</table></div>\n<p class="note">Average forgetting 0.0 points'
        in page
    )
    assert f">{100 * alone['b']:.1f}</text>" in page and ">adapters, in sequence</text>" in page
    assert "All tasks: shared adapter, all tasks" in page


def test_without_plots(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(write_report(copy, plots=False)) == 2 and not (copy / "plots").exists()
    monkeypatch.setattr(graftwork.report.files, "can_plot", lambda: False)
    assert len(write_report(copy)) == 2 and not (copy / "plots").exists()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (copy / "results.md").unlink()
    with pytest.raises(GraftworkError, match="pip install"):
        write_report(copy, plots=True)
    assert (copy / "results.md").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is no folder of a run"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
