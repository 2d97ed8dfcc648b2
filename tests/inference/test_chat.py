"""A chat with what a run has trained, from Python and over a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from graftwork.cli import app
from graftwork.errors import RecipeError
from graftwork.experiments import run
from graftwork.inference import Chat, Predictor
from graftwork.report import printable
from tests.support.tiny_generation_run import generation_recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    run(generation_recipe(folder, targets=[], controls=[]), folder / "run", root=folder)
    return folder / "run"


def typed(run: Path, text: str, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["chat", str(run), *options], input=text)
    return result.exit_code, result.stdout, result.stderr


def test_what_was_said_is_part_of_the_next_prompt(done: Path) -> None:
    chat = Chat(Predictor(done, "upper"))
    pieces: list[str] = []
    first = chat.say("good film", pieces.append)
    assert "".join(pieces).strip() == first
    assert first == Predictor(done, "upper").predict([{"prompt": "good film"}])[0].value
    chat.say("again")
    assert [one["role"] for one in chat.messages] == ["user", "assistant"] * 2
    rows = [{"messages": [*chat.messages, {"role": "user", "content": "more"}]}]
    other = Chat(Predictor(done, "talk"))
    other.messages = list(chat.messages)
    assert other.say("more") == Predictor(done, "talk").predict(rows)[0].value
    chat.reset()
    assert chat.messages == [] and chat.say("good film") == first


def test_over_a_pipe(done: Path) -> None:
    code, out, err = typed(done, "good film\n\n/what\n/reset\ngood film\n/exit\nnot read\n", "--task", "upper")
    first = printable(Chat(Predictor(done, "upper")).say("good film"))
    lines = out.split("\n")
    assert code == 0 and len(lines) == 3 and lines[0] == lines[1] and first in lines[0]
    assert "/what is no command; there is /reset" in err and "no chat template" not in err
    assert typed(done, "good film", "--task", "upper")[1] == f"{lines[0]}\n"  # the end of the input ends it too


def test_the_systems_message_and_the_options(done: Path) -> None:
    chat = Chat(Predictor(done, "talk"), "Be brief.")
    said = chat.say("good film")
    assert typed(done, "good film\n", "--task", "talk", "--system", "Be brief.")[1].count(printable(said)) == 1
    drawn = ("--task", "talk", "--temperature", "3", "--max-new-tokens", "12", "--sampling-seed")
    texts = {typed(done, "good film\n", *drawn, str(seed))[1] for seed in (1, 1, 2)}
    assert len(texts) == 2


def test_without_a_chat_template_that_is_said_once(tmp_path: Path) -> None:
    run(generation_recipe(tmp_path, None, targets=[], controls=[]), tmp_path / "run", root=tmp_path)
    code, out, err = typed(tmp_path / "run", "good film\nagain\n", "--task", "upper")
    assert code == 0 and len(out.splitlines()) >= 2
    assert err.count("the tokenizer has no chat template: what you type is continued as plain text") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--task", "judge"),
            "'judge' is of the kind generation with choices, and a chat is with a task of the kind generation",
        ),
        ((), "say which task"),
        (("--task", "upper", "--top-p", "7"), "top_p: Input should be less than or equal to 1"),
        (("--task", "upper", "--kind", "fusion"), "has no fusion of 'upper'"),
    ],
)
def test_what_cannot_be_chatted_with(done: Path, options: tuple[str, ...], said: str) -> None:
    code, out, err = typed(done, "x\n", *options)
    assert code == 1 and said in err and "Traceback" not in err and not out


def test_one_that_is_no_generation(done: Path) -> None:
    with pytest.raises(RecipeError, match="ask it by graftwork predict"):
        Chat(Predictor(done, "judge"))
