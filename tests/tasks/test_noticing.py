"""What is noticed in rows before they are trained on, with what to do about it."""

from __future__ import annotations

from typing import Any

from graftwork.tasks import Rows, TaskSpec
from graftwork.tasks.noticing import notice, uneven


def of(train: list[tuple[Any, Any]], dev: list[tuple[Any, Any]] | None = None, **spec: Any) -> list[str]:
    splits = {"train": train, **({} if dev is None else {"dev": dev})}
    made = {
        name: Rows([{"text": text, "label": label} for text, label in pairs], source=f"{name}.csv")
        for name, pairs in splits.items()
    }
    return [*notice(TaskSpec(**spec), made)]


MANY = [(f"text {n}", "ab"[n % 2]) for n in range(120)]


def test_nothing_is_said_of_rows_that_are_as_they_should_be() -> None:
    assert of(MANY, [("other", "a"), ("another", "b")]) == []


def test_few_rows_are_said() -> None:
    (said,) = of(MANY[:60])
    assert said.startswith("there are 60 train rows, so that") and said.endswith("(graftwork run --seeds 5)")


def test_texts_that_are_alike_but_for_blanks_and_capitals_in_train_and_dev() -> None:
    said = of(MANY, [("  TEXT  7", "b"), ("new", "a")])
    assert said == [
        "1 dev row has a text that a train row has too, at dev.csv:1; scores on them are too good: take them out of one of the two"
    ]
    assert of([*MANY, ("Text 7 ", "b")]) == [
        "1 train row has a text that an earlier train row has; it counts twice: take one out"
    ]


def test_equal_texts_with_different_labels() -> None:
    said = of([*MANY, ("TEXT 0", "b")])
    assert said[1] == (
        "2 train rows have texts that are alike and different labels, first train.csv:1 'a' and train.csv:121 'b'; decide which "
        "is right"
    )


def test_rows_without_a_text_or_a_label() -> None:
    said = of([*MANY, (" ", "a"), ("some", None), ("more", "")])
    assert said == [
        "1 train row has an empty text, at train.csv:121; fill it in, or take the row out",
        "2 train rows have nothing in 'label', first at train.csv:122, and `graftwork run` refuses that; fill it in, or take the "
        "row out",
    ]
    assert not of([(f"text {n}", -1.0 + n) for n in range(120)], kind="regression"), "-1 is a number there"


def test_labels_that_are_rare_or_written_in_two_ways_or_new() -> None:
    odd = [*MANY, *((f"rare {n}", "A ") for n in range(3))]
    said = of(odd, [("new", "c")])
    assert said[0].startswith(
        "60 train rows are 'a' and 3 are 'A '; 'class_weights = \"balanced\"' lets every label count"
    )
    assert said[1].startswith("'A ' has fewer than 5 train rows")
    assert said[2] == "the labels 'a', 'A ' differ by blanks, capitals or encoding alone; write one label alike"
    assert said[3].startswith("dev rows have 'c', which no train row has")
    assert uneven(TaskSpec(), Rows([{"label": label} for _, label in odd]))
    assert not uneven(TaskSpec(), Rows([{"label": label} for _, label in MANY]))


def test_a_pair_is_alike_only_as_a_whole() -> None:
    def pairs(*second: str) -> dict[str, Rows]:
        return {"train": Rows([{"text": "one", "text_pair": one, "label": "a"} for one in second])}

    said = [*notice(TaskSpec(), pairs("x", "y"))]
    assert not any("earlier train row" in one for one in said)
    assert any("earlier train row" in one for one in notice(TaskSpec(), pairs("x", "X ")))
