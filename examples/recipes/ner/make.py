"""Writes data/news and data/messages: sentences with the names of people, places and organisations, tagged word by word.

    python examples/recipes/ner/make.py

Everything here is made up. Train and dev share no name, and the last templates of each list are met in dev alone: what
is scored is reading a sentence, not knowing its names. A place may stand in a person's or a club's name, so that a word
alone does not say what it is.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
ONLY_IN_DEV = 4

NAMES = {
    "train": {
        "first": "Anna Boris Carla Dario Elif Frida Goran Hanne Ivo Jelena Kofi Lina Marek Nadia Otto".split(),
        "last": "Adler Brandt Castell Dorn Eklund Fabri Gruber Holm Ilves Janda Keller Lindau Moreau Novak".split(),
        "place": "Lindau Ostermoor Karlsby Velden Port_Amery Grauwick Tresco_Bay Norrfors Alm Sintra Belcastel".split(),
        "firm": "Nordlicht Halden_&_Sons Blue_Anchor Vetter_Mills Carbonic Ferro_West Papyra Sunleaf".split(),
    },
    "dev": {
        "first": "Amina Bruno Chiara Daan Esra Finn Greta Hugo Ines Jonas Katya Luca".split(),
        "last": "Aubert Bergman Cerny Duarte Elster Farkas Greco Haas Iversen Marwick".split(),
        "place": "Marwick Sandhaven Lower_Tarn Kesten Villarosa Brok Eastmere Cape_Lorne".split(),
        "firm": "Quarrion Baker_&_Dahl Red_Kite Lumenta Stone_Harbour Tidewell".split(),
    },
}
CLUBS = {"train": "Rovers United Athletic".split(), "dev": "Wanderers City".split()}
OFFICES = {"train": "Port_Authority City_Council University".split(), "dev": "Town_Council Observatory".split()}

TEMPLATES = {
    "news": [
        "{PER} was elected mayor of {LOC} on Sunday .",
        "{ORG} will close its factory in {LOC} next spring .",
        "Heavy rain stopped all trains between {LOC} and {LOC} .",
        "{PER} , who founded {ORG} , died at the age of 81 .",
        "{ORG} beat {ORG} by two goals .",
        "The bridge at {LOC} was opened by {PER} .",
        "A court in {LOC} found {PER} not guilty .",
        "{ORG} named {PER} as its new head .",
        "Workers of {ORG} went on strike , said {PER} .",
        "The museum of {LOC} bought a painting by {PER} .",
        "{PER} and {PER} won the race from {LOC} to {LOC} .",
        "Prices rose again , {ORG} reported on Friday .",
        "The storm reached {LOC} before noon .",
        "In {LOC} , {ORG} plans a thousand new homes .",
        "Nobody was hurt when a crane fell in the harbour .",
        "The minister spoke for an hour and said little .",
        "{PER} left {ORG} after nine years .",
        "Police in {LOC} are looking for {PER} .",
        "According to {PER} , the talks with {ORG} failed .",
        "After two dry weeks , rain is expected on the coast .",
    ],
    "messages": [
        "hi {PER} , are you in {LOC} already ?",
        "can you ask {PER} for the keys",
        "the parcel from {ORG} is at the neighbours'",
        "{PER} says the train to {LOC} is late again",
        "lunch with {PER} and {PER} at one ?",
        "i start at {ORG} on monday !",
        "we are stuck behind {LOC} , do not wait",
        "call {ORG} about the bill please",
        "happy birthday {PER} , see you tonight",
        "sorry , no time today",
        "did {PER} send the photos from {LOC} ?",
        "who has the number of {PER} ?",
        "{ORG} lost again , i am going home",
        "tell {PER} that {ORG} called back",
        "the heating is off , bring a coat",
    ],
}


def entity(kind: str, split: str, draw: random.Random) -> list[str]:
    """The words of a name."""
    names = NAMES[split]
    place = draw.choice(names["place"])
    if kind == "LOC":
        text = place
    elif kind == "PER":
        first, last = draw.choice(names["first"]), draw.choice(names["last"])
        text = draw.choice([first, f"{first}_{last}", f"{first}_{last}", f"Mr_{last}", f"Mrs_{last}"])
    else:
        club, office = f"{place}_{draw.choice(CLUBS[split])}", f"{place}_{draw.choice(OFFICES[split])}"
        text = draw.choice([draw.choice(names["firm"]), draw.choice(names["firm"]), club, office])
    return text.split("_")


def row(task: str, split: str, draw: random.Random) -> dict[str, list[str]]:
    """A sentence as words and tags."""
    templates = TEMPLATES[task] if split == "dev" else TEMPLATES[task][:-ONLY_IN_DEV]
    tokens, tags = [], []
    for word in draw.choice(templates).split():
        if word.startswith("{"):
            kind = word.strip("{}")
            words = entity(kind, split, draw)
            while " ".join(words) in " ".join(tokens):  # nobody travels from a town to the same one
                words = entity(kind, split, draw)
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(words) - 1)]
            tokens += words
        else:
            tokens.append(word)
            tags.append("O")
    return {"tokens": tokens, "tags": tags}


def rows(task: str, split: str, count: int, learnt: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    """So many sentences, none of them twice and none that is learnt from: some have no name at all."""
    draw, found = random.Random(f"{task} {split}"), {}
    while len(found) < count:
        one = row(task, split, draw)
        if one not in learnt:
            found.setdefault(" ".join(one["tokens"]), one)
    return list(found.values())


def main() -> None:
    for task, counts in {"news": {"train": 300, "dev": 80}, "messages": {"train": 60, "dev": 100}}.items():
        folder = HERE / "data" / task
        folder.mkdir(parents=True, exist_ok=True)
        learnt: list[dict[str, list[str]]] = []
        for split, count in counts.items():
            learnt = rows(task, split, count, learnt)
            lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in learnt]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
