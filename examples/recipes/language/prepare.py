"""Gives MiniLM a head for words, and writes texts of two languages and reviews in both.

    python examples/recipes/language/prepare.py

The sentences are made by templates, each in English and in German. The head learns from the texts of both languages and is
then the same for both.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from transformers.utils import logging

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from words import write_base  # noqa: E402  # beside the recipes' folders

OUT = HERE / "out"

# English, German with its article
THINGS = [
    ("hotel", "das Hotel"), ("room", "das Zimmer"), ("breakfast", "das Frühstück"), ("food", "das Essen"),
    ("book", "das Buch"), ("play", "das Stück"), ("staff", "das Personal"), ("water", "das Wasser"),
    ("house", "das Haus"), ("journey", "die Reise"), ("music", "die Musik"), ("city", "die Stadt"),
    ("bar", "die Bar"), ("soup", "die Suppe"), ("story", "die Geschichte"), ("coast", "die Küste"),
]  # fmt: skip
GOOD = [
    ("wonderful", "wunderbar"), ("good", "gut"), ("beautiful", "schön"), ("excellent", "ausgezeichnet"),
    ("friendly", "freundlich"), ("perfect", "perfekt"), ("great", "großartig"), ("pleasant", "angenehm"),
]  # fmt: skip
BAD = [
    ("terrible", "furchtbar"), ("bad", "schlecht"), ("ugly", "hässlich"), ("boring", "langweilig"),
    ("dirty", "schmutzig"), ("awful", "schrecklich"), ("expensive", "teuer"), ("disappointing", "enttäuschend"),
]  # fmt: skip
# a frame of reviews has an adjective; one of plain text may do without
REVIEWS = [
    ("the {thing} was {word} .", "{thing} war {word} ."),
    ("we found the {thing} {word} .", "wir fanden {thing} {word} ."),
    ("everyone said that the {thing} was {word} .", "alle sagten , dass {thing} {word} war ."),
    ("the {thing} is really {word} , and we will tell our friends .",
     "{thing} ist wirklich {word} , und wir werden es unseren Freunden sagen ."),
]  # fmt: skip
PLAIN = [
    ("yesterday we talked about the {thing} .", "gestern sprachen wir über {thing} ."),
    ("the {thing} is not far from here .", "{thing} ist nicht weit von hier ."),
    ("do you know the {thing} ?", "kennst du {thing} ?"),
    ("the {thing} reminds me of last summer .", "{thing} erinnert mich an den letzten Sommer ."),
]


def sentences(language: int, frames: list[tuple[str, str]], words: list[tuple[str, str]]) -> list[str]:
    """Every frame with every thing and, where it has one, every word; 0 is English, 1 German."""
    found = [
        frame[language].format(thing=thing[language], word=word[language])
        for frame in frames
        for thing in THINGS
        for word in (words if "{word}" in frame[language] else words[:1])
    ]
    return list(dict.fromkeys(found))


def reviews(language: int, things: list[tuple[str, str]], draw: random.Random) -> list[dict[str, str]]:
    """Labelled reviews of some things."""
    named = [thing[language] for thing in things]
    rows = [
        {"text": text, "label": label}
        for label, words in (("good", GOOD), ("bad", BAD))
        for text in sentences(language, REVIEWS, words)
        if any(f" {name} " in f" {text} " for name in named)
    ]
    draw.shuffle(rows)
    return rows


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few steps, to see that everything runs")
    small = parser.parse_args().small
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    draw = random.Random(0)
    OUT.mkdir(parents=True, exist_ok=True)
    every: list[str] = []
    for language, name in enumerate(("en", "de")):
        texts = sentences(language, PLAIN + REVIEWS, GOOD + BAD)
        draw.shuffle(texts)
        (OUT / f"{name}.txt").write_text("\n".join(texts[:400]) + "\n", encoding="utf-8")
        every += texts[:400]
    # what is scored is of other things than what is learnt from
    write_rows(OUT / "reviews-en" / "train.jsonl", reviews(0, THINGS[:10], draw)[:240])
    write_rows(OUT / "reviews-en" / "dev.jsonl", reviews(0, THINGS[10:], draw)[:100])
    write_rows(OUT / "reviews-de.jsonl", reviews(1, THINGS[10:], draw)[:100])
    write_base(every[:64] if small else every, OUT / "base", epochs=1 if small else 3, max_length=32)


if __name__ == "__main__":
    main()
