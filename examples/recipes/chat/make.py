"""Writes data/orders, data/moods, data/desks and data/notes: what customers write to a shop, and what a clerk notes.

    python examples/recipes/chat/make.py

Three tasks read one thing each off a message; the fourth, ``notes``, wants all three in one line. The goods and the sentences of
dev are not those of train. Everything here is made up.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday".split()
NUMBERS = "two three four five six seven eight nine".split()
GOODS = {
    "train": """oak chairs, wool blankets, garden lamps, tea cups, bread knives, window boxes, bath towels, picture frames, clay
        pots, door mats, candle sticks, soup bowls, book shelves, fire screens, wine glasses, coat hooks, kitchen scales, floor
        rugs, bird houses, watering cans""",
    "dev": "desk lamps, linen sheets, salad bowls, walnut stools, wall clocks, flower vases, butter dishes, folding tables",
}
# what one asks for: the goods, how many, and for when
ORDERS = {
    "train": """
Please send me {n} {goods} by {day}.
I would like to order {n} {goods} for {day}.
Could you deliver {n} {goods} on {day}?
We need {n} {goods} before {day}.
My aunt wants {n} {goods}, and {day} would be best.
Put me down for {n} {goods}, to be here on {day}.
For {day} we are short of {n} {goods}.
Can I have {n} {goods} on {day}, as last year?
""",
    "dev": """
Would you keep {n} {goods} for me until {day}?
On {day} I am coming for {n} {goods}.
Please let us have {n} {goods} no later than {day}.
It is {n} {goods} this time, and {day} suits us.
""",
}
# how one feels about the last time
MOODS = {
    "pleased": {
        "train": """
Last time everything was perfect.
Your driver was so kind to my children.
What I bought in spring is the pride of the house.
Thank you again for the lovely wrapping.
I have told all my neighbours how good you are.
Never have I been served so well.
""",
        "dev": """
You made my mother very happy with the last parcel.
The colours are even finer than in your window.
It is a joy to buy from you.
""",
    },
    "annoyed": {
        "train": """
Last time half of it was broken.
I waited a whole day and nobody came.
Your driver left the box in the rain.
This is the third letter I have had to write.
The colour was wrong once more, and nobody said sorry.
For that price I had hoped for better.
""",
        "dev": """
The last parcel was open when it came.
Nobody picks up your telephone, ever.
I am tired of sending things back.
""",
    },
    "neutral": {
        "train": """
We live at the same address as before.
The gate is open from eight to four.
I am paying by card.
Our number has not changed.
A colleague gave me your name.
The bell is on the left of the door.
""",
        "dev": """
You may leave it with the baker next door.
I am writing on behalf of the choir.
Our office is on the second floor.
""",
    },
}
# what else one asks, and who answers it
DESKS = {
    "billing": {
        "train": """
May I pay in two parts?
Was my last bill not paid twice?
Please write the firm's name on the bill.
Does the price include the tax?
Where do I send the money?
""",
        "dev": """
Could you send me a copy of the receipt?
Is there a discount for schools?
""",
    },
    "delivery": {
        "train": """
At what hour will the van come?
Can your driver carry it up to the third floor?
Do you bring things to the island too?
Is it possible to follow the parcel on its way?
Will it fit through a narrow door?
""",
        "dev": """
Does somebody have to be at home to sign for it?
How long is it on the road?
""",
    },
    "repairs": {
        "train": """
The handle of the old one came off, can you fix it?
How do I get a scratch out of the wood?
Is there a spare part for the hinge?
One leg is loose, do you mend such things?
The glass has a crack, what can be done?
""",
        "dev": """
Can the torn seam be sewn again?
The lid no longer closes, would you look at it?
""",
    },
}
ROWS = {"train": 64, "dev": 32}


def lines(text: str) -> list[str]:
    """The lines of a block of text."""
    return text.strip().splitlines()


def message(draw: random.Random, split: str) -> dict[str, str]:
    """A message of three sentences with all that can be read off it."""
    goods = [" ".join(name.split()) for name in GOODS[split].split(",")]
    facts = {"n": draw.choice(NUMBERS), "goods": draw.choice(goods), "day": draw.choice(DAYS)}
    mood, desk = draw.choice(sorted(MOODS)), draw.choice(sorted(DESKS))
    sentences = [
        draw.choice(lines(ORDERS[split])).format(**facts),
        draw.choice(lines(MOODS[mood][split])),
        draw.choice(lines(DESKS[desk][split])),
    ]
    draw.shuffle(sentences)
    return {**facts, "mood": mood, "desk": desk, "prompt": " ".join(sentences)}


def order(facts: dict[str, str]) -> str:
    """How a clerk writes what is wanted."""
    return f"{NUMBERS.index(facts['n']) + 2} x {facts['goods']}, {facts['day'][:3].upper()}"


TARGETS = {
    "orders": order,
    "moods": lambda facts: facts["mood"],
    "desks": lambda facts: facts["desk"],
    "notes": lambda facts: f"{order(facts)} | {facts['mood']} | {facts['desk']}",
}


def main() -> None:
    """Write all files."""
    for number, (task, target) in enumerate(TARGETS.items()):
        draw, seen = random.Random(number), set[str]()
        (HERE / "data" / task).mkdir(parents=True, exist_ok=True)
        for split, count in ROWS.items():
            rows: list[str] = []
            while len(rows) < count:
                facts = message(draw, split)
                if facts["prompt"] not in seen:
                    seen.add(facts["prompt"])
                    rows.append(json.dumps({"prompt": facts["prompt"], "target": target(facts)}))
            path = HERE / "data" / task / f"{split}.jsonl"
            path.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
