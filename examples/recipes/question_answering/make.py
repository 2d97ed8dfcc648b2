"""Writes data/events and data/lost: short texts, questions about them, and where the answers stand.

    python examples/recipes/question_answering/make.py

The sentences of a text come in any order, and most questions have a rival in it (two names, two places, two times), so
that the form of an answer alone does not tell which it is. Some ways to ask are met in dev alone. All of it is made up.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent

WORDS = {
    "who": "Anna Adler,Boris Brandt,Carla Dorn,Dario Eklund,Elif Gruber,Frida Holm,Goran Janda,Hanne Keller,Ivo Novak,"
    "Jelena Ruiz,Kofi Sand,Lina Thoma",
    "town": "Karlsby,Velden,Grauwick,Norrfors,Kesten,Eastmere,Sandhaven,Brok",
    "place": "the town hall,the old mill,the sports ground,the church garden,the school yard,the fire station,the library",
    "time": "half past six,seven o'clock,noon,a quarter to nine,three in the afternoon,ten in the morning",
    "event": "flea market,jazz concert,chess evening,bread festival,poetry night,bicycle race,puppet show",
    "price": "four euros,two coins,seven pounds,nothing,a home-made cake,nine crowns",
    "thing": "green umbrella,silver ring,blue rucksack,wool scarf,black camera,pair of glasses,yellow helmet,bunch of keys",
    "spot": "under a bench,on the last tram,behind the counter,next to the fountain,in a taxi,on the stairs,in the cinema",
    "day": "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday",
    "shelf": "shelf two,the glass case,drawer nine,the back room,box fourteen,the safe",
}

# Of each task: what is said, in any order, and what is asked with the slot that answers it. A second slot of a kind has a
# number behind its name. The last way to ask of each is met in dev alone.
TASKS = {
    "events": {
        "said": [
            "The {event} in {town} begins at {time}.",
            "It takes place at {place}; if it rains, everybody moves to {place2}.",
            "{who} has organised it, and {who2} brings the drinks.",
            "Tickets cost {price}.",
            "The last bus home leaves at {time2}.",
        ],
        "asked": {
            "time": ["When does the {event} begin?", "At what time does it start?"],
            "time2": ["When does the last bus leave?", "When must one be at the bus?"],
            "place": ["Where does the {event} take place?", "Where is the {event}?"],
            "place2": ["Where does everybody go if it rains?", "Where is it held in bad weather?"],
            "who": ["Who has organised the {event}?", "Who is the organiser?"],
            "who2": ["Who brings the drinks?", "Who takes care of the drinks?"],
            "price": ["What do tickets cost?", "How much is a ticket?"],
            "town": ["In which town is the {event}?", "What is the name of the town?"],
        },
    },
    "lost": {
        "said": [
            "A {thing} was found {spot} on {day}.",
            "{who} handed it in, and {who2} wrote this note.",
            "It is kept in {shelf}.",
            "The owner may come on {day2} before {time}.",
        ],
        "asked": {
            "thing": ["What was found?", "What has somebody lost?"],
            "spot": ["Where was the {thing} found?", "Where did the {thing} lie?"],
            "day": ["On which day was it found?", "When was the {thing} found?"],
            "day2": ["On which day may the owner come?", "When can the {thing} be fetched?"],
            "who": ["Who handed it in?", "Who found the {thing}?"],
            "who2": ["Who wrote the note?", "Who is the author of the note?"],
            "shelf": ["Where is it kept?", "Where is the {thing} now?"],
        },
    },
}


def row(task: str, split: str, draw: random.Random) -> dict[str, object] | None:
    """A question with its context and answer; nothing where the answer stands in the context twice."""
    said = draw.sample(TASKS[task]["said"], len(TASKS[task]["said"]))
    slots = {}
    for name, words in WORDS.items():
        slots[name], slots[f"{name}2"] = draw.sample(words.split(","), 2)
    context = " ".join(said).format(**slots)
    slot, ways = draw.choice(list(TASKS[task]["asked"].items()))
    question = draw.choice(ways if split == "dev" else ways[:-1]).format(**slots)
    if context.count(slots[slot]) != 1:
        return None
    answers = {"text": [slots[slot]], "answer_start": [context.index(slots[slot])]}
    return {"question": question, "context": context, "answers": answers}


def rows(task: str, split: str, count: int) -> list[dict[str, object]]:
    """So many questions, each about a text of its own."""
    draw, found = random.Random(f"{task} {split}"), {}
    while len(found) < count:
        one = row(task, split, draw)
        if one is not None:
            found.setdefault(one["context"], one)
    return list(found.values())


def main() -> None:
    for task, counts in {"events": {"train": 320, "dev": 80}, "lost": {"train": 60, "dev": 100}}.items():
        folder = HERE / "data" / task
        folder.mkdir(parents=True, exist_ok=True)
        for split, count in counts.items():
            lines = [json.dumps(one) + "\n" for one in rows(task, split, count)]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
