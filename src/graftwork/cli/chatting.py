"""The command that chats with what a run has trained."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from graftwork.cli.shared import (
    Command,
    MaxNewTokens,
    Root,
    RunFolder,
    SamplingSeed,
    Temperature,
    TopK,
    TopP,
    UnitKindName,
    UnitSeed,
    app,
    one_line,
    quiet,
    say,
)


@app.command(cls=Command)
def chat(
    run: RunFolder,
    task: Annotated[str | None, typer.Option(help="The task; by default the run's one target or task.")] = None,
    kind: UnitKindName = None,
    seed: UnitSeed = None,
    system: Annotated[str | None, typer.Option(help="The system's message; by default the task's.")] = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    max_new_tokens: MaxNewTokens = None,
    sampling_seed: SamplingSeed = None,
    root: Root = None,
) -> None:
    """Chat with what a run has trained, for a task of the kind generation.

    Each line is a message, and the answer is shown while it is written. What
    was said before is part of the next prompt; /reset forgets it, /exit or
    the end of the input ends the chat. Lines may come from a pipe.

    For example:

        graftwork chat runs/recipe --task titles --temperature 0.7

        graftwork chat runs/recipe --task titles --kind zero_shot

        echo "A cat sleeps on the mat." | graftwork chat runs/recipe --task titles
    """
    with one_line():
        from graftwork.errors import TaskError
        from graftwork.inference import Chat, Predictor
        from graftwork.report import printable

        quiet()
        predictor = Predictor(run, task, kind=kind, seed=seed, root=root)
        predictor.generate_with(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_new_tokens=max_new_tokens,
            sampling_seed=sampling_seed,
        )
        talk = Chat(predictor, system)
        if not talk.has_template:
            say("the tokenizer has no chat template: what you type is continued as plain text", "yellow")
        for line in _lines():
            if line == "/reset":
                talk.reset()
            elif line.startswith("/"):
                say(f"{line} is no command; there is /reset, which forgets what was said, and /exit", "yellow")
            else:
                try:
                    talk.say(line, lambda piece: typer.echo(printable(piece, keep="\n"), nl=False))
                except TaskError as error:
                    say(str(error), "red")
                typer.echo()


def _lines() -> Iterator[str]:
    """What is typed, line by line, until /exit, the end of the input, or an interruption."""
    shown = "> " if sys.stdin.isatty() else ""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while (line := input(shown).strip()) != "/exit":
            if line:
                yield line
