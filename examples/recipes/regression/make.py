"""Writes data/films and data/meals: short reviews, each with a number from 0 (hated) to 5 (loved).

    python examples/recipes/regression/make.py

The number follows from the words: each adjective has a worth, a word in front of it changes that, behind "but" counts
for more, and a last sentence adds its own. Everything here is made up.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent

# worth of each adjective; those of the second list are met in dev alone
ADJECTIVES = {"awful": -2, "poor": -1.5, "dull": -1, "weak": -1, "fine": 0.6, "good": 1, "lovely": 1.5, "superb": 2}
ONLY_IN_DEV = {"terrible": -2, "disappointing": -1.2, "nice": 1, "wonderful": 1.9}
# what a word in front of the adjective does to its worth
DEGREES = {"": 1.0, "a bit": 0.5, "rather": 0.8, "really": 1.3, "not": -0.6}
ENDS = {
    "I would go again tomorrow.": 1.2,
    "My friends should try it too.": 0.8,
    "Once is enough.": -0.6,
    "I want my money back.": -1.4,
    "It was a Tuesday.": 0.0,
    "": 0.0,
}
PARTS = {
    "films": "plot,acting,music,ending,first hour,camera work,dialogue,leading actor".split(","),
    "meals": "soup,fish,bread,dessert,service,coffee,main course,waiter".split(","),
}


def review(task: str, split: str, draw: random.Random) -> dict[str, object]:
    """A text and its number."""
    adjectives = list({**ADJECTIVES, **(ONLY_IN_DEV if split == "dev" else {})}.items())
    said, worths = [], []
    for part in draw.sample(PARTS[task], 2):
        (adjective, worth), (degree, factor) = draw.choice(adjectives), draw.choice(list(DEGREES.items()))
        said.append(f"the {part} was {degree} {adjective}".replace("  ", " "))
        worths.append(worth * factor)
    link, weights = draw.choice([("and", (0.8, 0.8)), ("but", (0.5, 1.1))])
    end, more = draw.choice(list(ENDS.items()))
    number = 2.5 + worths[0] * weights[0] + worths[1] * weights[1] + more
    text = f"{said[0].capitalize()}, {link} {said[1]}. {end}".strip()
    return {"text": text, "label": round(min(5.0, max(0.0, number)), 1)}


def rows(task: str, split: str, count: int) -> list[dict[str, object]]:
    """So many reviews, none of them twice."""
    draw, found = random.Random(f"{task} {split}"), {}
    while len(found) < count:
        one = review(task, split, draw)
        found.setdefault(one["text"], one)
    return list(found.values())


def main() -> None:
    for task, counts in {"films": {"train": 300, "dev": 80}, "meals": {"train": 60, "dev": 100}}.items():
        folder = HERE / "data" / task
        folder.mkdir(parents=True, exist_ok=True)
        for split, count in counts.items():
            lines = [json.dumps(one) + "\n" for one in rows(task, split, count)]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
