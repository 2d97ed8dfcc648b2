"""Writes the four small tasks of the examples from sentences written by hand for this project.

    python examples/data/make.py            # writes <task>/{train,dev}.jsonl and <task>/meta.json beside this file

The sentences are in `scenes.txt` (entailment, paraphrase), `reviews.txt` (sentiment) and `notes.txt` (contradiction,
the small target). Each stands in its own words; only names, days, dishes and the like are slots, filled here. A scene
or pattern goes to train or to dev as a whole, so that dev asks about sentences of which no variant was trained on.
The output is the same on every run.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent

VOCABULARY = {
    "name": "Anna Ben Carla Dmitri Elif Farah George Hana Ivan Julia Kofi Lena Marco Nadia Oscar Priya Rosa Samir Tess "
    "Umar Vera Wen Yusuf Zoe",
    "city": "Lisbon Leeds Turin Hamburg Lyon Boston Porto Ghent Bergen Krakow Dublin Malmö",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday",
    "month": "February March April September October November",
    "colour": "red blue green yellow grey white",
    "fruit": "plum pear lemon fig quince nectarine",
    "dish": "lasagne|fish soup|mushroom risotto|lentil curry|goulash|ratatouille",
    "gadget": "kettle|camera|vacuum cleaner|bicycle lamp|coffee grinder|keyboard|tablet",
    "show": "film|play|musical|documentary|series",
    "language": "Spanish Greek Turkish Finnish Korean Arabic",
    "n": "three four five six seven eight nine",
    "few": "two three four",
    "even": "six eight ten twelve",
    "hour": "seven eight nine ten eleven",
}
CHOICES = {slot: words.split("|") if "|" in words else words.split() for slot, words in VOCABULARY.items()}
SLOT = re.compile(r"\{([a-z]+)(\d?)\}")

Row = dict[str, str | int]


def read_scenes(path: Path) -> list[list[tuple[str, str]]]:
    """The scenes of a file, each the (mark, sentence) of its lines; scenes are separated by empty lines."""
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    scenes = [[(line[0], line[2:]) for line in block.splitlines() if line and line[0] != "#"] for block in blocks]
    return [scene for scene in scenes if scene]


def fillings(sentences: list[str], rng: random.Random, count: int) -> Iterator[dict[str, str]]:
    """`count` ways to fill the slots that these sentences share; {city} and {city2} are never the same.

    The word of a slot differs from one filling to the next for as long as there are words.
    """
    slots = sorted({match.groups() for sentence in sentences for match in SLOT.finditer(sentence)})
    order = {slot: rng.sample(CHOICES[slot], len(CHOICES[slot])) for slot in sorted({slot for slot, _ in slots})}
    for turn in range(count):
        filling = {}
        for position, (slot, number) in enumerate(slots):
            words = order[slot]
            step = sum(other == slot for other, _ in slots)  # how many slots draw from these words
            before = sum(other == slot for other, _ in slots[:position])
            filling[slot + number] = words[(turn * step + before) % len(words)]
        yield filling


def fill(sentence: str, filling: dict[str, str]) -> str:
    """The sentence with its slots filled and a capital at its start."""
    text = SLOT.sub(lambda match: filling[match[1] + match[2]], sentence)
    return text[0].upper() + text[1:]


def pairs(scenes: list[list[tuple[str, str]]], marks: str, count: int, seed: str, swap: bool = False) -> list[Row]:
    """Rows that pair the first sentence of a scene with the sentences under `marks`; the label is the mark's place."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for scene in scenes:
        first = scene[0][1]
        for filling in fillings([sentence for _, sentence in scene], rng, count):
            for mark, sentence in scene[1:]:
                if mark in marks:
                    sides = [fill(first, filling), fill(sentence, filling)]
                    if swap and rng.random() < 0.5:
                        sides.reverse()
                    rows.append({"text": sides[0], "text_pair": sides[1], "label": marks.index(mark)})
    return finished(rows, rng)


def singles(patterns: list[tuple[str, str]], marks: str, count: int, seed: str) -> list[Row]:
    """Rows of one sentence each; the label is the place of the sentence's mark in `marks`."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for mark, sentence in patterns:
        for filling in fillings([sentence], rng, count):
            rows.append({"text": fill(sentence, filling), "label": marks.index(mark)})
    return finished(rows, rng)


def finished(rows: list[Row], rng: random.Random) -> list[Row]:
    """The rows without repetitions (in whichever order of the two sides), shuffled."""
    unique = list({frozenset((row["text"], row.get("text_pair"))): row for row in rows}.values())
    rng.shuffle(unique)
    return unique


def split(items: list, every: int) -> tuple[list, list]:
    """Every `every`-th item is dev, the others are train."""
    dev = items[every - 1 :: every]
    return [item for place, item in enumerate(items) if (place + 1) % every], dev


def write(task: str, labels: list[str], train: list[Row], dev: list[Row]) -> None:
    """Writes one task's folder."""
    folder = HERE / task
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", dev)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    meta = {"task": task, "labels": labels, "counts": {"train": len(train), "dev": len(dev)}, "made_by": "make.py"}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    print(f"{task}: {len(train)} train, {len(dev)} dev, labels {', '.join(labels)}")


def main() -> None:
    """Writes all four tasks."""
    train, dev = split(read_scenes(HERE / "scenes.txt"), every=5)
    labels = ["entailment", "neutral", "contradiction"]
    write("entailment", labels, pairs(train, "+?-", 2, "entailment train"), pairs(dev, "+?-", 2, "entailment dev"))
    labels = ["different", "paraphrase"]
    rows = [pairs(scenes, "!~", 3, f"paraphrase {place}", swap=True) for place, scenes in enumerate((train, dev))]
    write("paraphrase", labels, *rows)

    (patterns,) = read_scenes(HERE / "reviews.txt")
    halves = [split([pattern for pattern in patterns if pattern[0] == mark], every=5) for mark in "-+"]
    rows = [singles(halves[0][place] + halves[1][place], "-+", 5, f"sentiment {place}") for place in (0, 1)]
    write("sentiment", ["negative", "positive"], *rows)

    train, dev = split(read_scenes(HERE / "notes.txt"), every=2)
    rows = [pairs(train, "+-", 1, "contradiction train"), pairs(dev, "+-", 2, "contradiction dev")]
    write("contradiction", ["consistent", "contradiction"], *rows)


if __name__ == "__main__":
    main()
