"""Asking a run by the command line: texts, files, and what is said when it cannot be."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import graftwork as gw
from graftwork.cli import app
from graftwork.experiments import Recipe, run
from graftwork.tasks import TaskSpec, kinds
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = RECIPE.replace("epochs = 3", "epochs = 1").replace("copies = 2", 'copies = 2\ncontrols = ["head"]')


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    run(Recipe.read(make_tiny(folder, SHORT)), folder / "run", root=folder)
    return folder / "run"


def asked(*args: object) -> tuple[int, str, list[dict]]:
    result = CliRunner().invoke(app, ["predict", *map(str, args)])
    lines = [json.loads(line) for line in result.stdout.splitlines()] if result.exit_code == 0 else []
    return result.exit_code, result.output, lines


def test_a_text(done: Path) -> None:
    code, _, (answer,) = asked(done, "the film was good")
    assert code == 0 and answer["value"] in ("pos", "neg")
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert asked(done, "the film was good", "--task", "a", "--kind", "fusion", "--seed", 0)[2] == [answer]
    assert asked(done, "the film was good", "--kind", "adapter")[2] != [answer]


def test_a_file_gives_the_same_as_its_rows(done: Path, tmp_path: Path) -> None:
    texts = ["the film was good", "a very bad plot", "nice"]
    (tmp_path / "rows.csv").write_text("text\n" + "\n".join(texts) + "\n")
    _, _, lines = asked(done, "--file", tmp_path / "rows.csv")
    assert [line["line"] for line in lines] == [2, 3, 4]
    for text, line in zip(texts, lines, strict=True):
        (alone,) = asked(done, text)[2]
        assert line["value"] == alone["value"]
        assert line["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "either texts or a file"),
        (("x", "y", "z"), "given are 3 texts"),
        (("x", "--task", "nothing"), "no task of this run"),
        (("x", "--kind", "own"), "no own of 'a'"),
        (("--file", "nowhere.csv"), "nowhere.csv is not there"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_1(done: Path, args: tuple[str, ...], said: str) -> None:
    code, output, _ = asked(done, *args)
    assert code == 1 and said in " ".join(output.split()) and "Traceback" not in output


def test_texts_as_they_are_typed_for_every_kind() -> None:
    def typed(kind: str, *texts: str, labels: tuple[str, ...] = ("A", "B")) -> dict:
        return kinds[kind](TaskSpec(kind=kind), labels, "t").typed(texts)

    assert typed("classification", "x", "y") == {"text": "x", "text_pair": "y"}
    assert typed("tagging", "John went home") == {"tokens": ["John", "went", "home"]}
    assert typed("question_answering", "who?", "John.") == {"question": "who?", "context": "John."}
    assert typed("multiple_choice", "x", "one", "two") == {"text": "x", "choices": ["one", "two"]}
    assert typed("image_classification", "a.png") == {"image": "a.png"}
    with pytest.raises(gw.TaskError, match="its 2 choices"):
        typed("multiple_choice", "x", "one")
    with pytest.raises(gw.TaskError, match="the question and the context"):
        typed("question_answering", "who?")
