"""Writes data/tools and data/callers: questions with three answers, one of them right.

    python examples/recipes/multiple_choice/make.py

A wrong answer is the right one of another question, so that no answer is right or wrong by itself. The questions of dev
are about other things than those of train. Everything here is made up.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
CHOICES = 3
PEOPLE = "Anna Boris Carla Dario Elif Frida Goran Hanne Ivo Jelena".split()

# what somebody wants to do, and what it takes
TOOLS = """
drive a nail into the wall: a hammer
cut a sheet of paper: scissors
look at the moon from close by: a telescope
make a hole in a plank: a drill
sweep the kitchen floor: a broom
sew a button on: a needle
cross the lake: a rowing boat
write a letter by hand: a pen
see in a dark cellar: a torch
measure how warm it is: a thermometer
open a locked door: a key
eat soup: a spoon
dig a hole in the garden: a spade
carry water to the horses: a bucket
stay dry in the rain: an umbrella
reach the top shelf: a ladder
take a picture of the family: a camera
dry wet hair: a towel
brush the dog's coat: a brush
know what time it is: a watch
pay for the bread: money
find north in the forest: a compass
slice the bread: a bread knife
glue the broken cup: glue
bake a cake: an oven
keep milk cold: a fridge
sleep in the open air: a tent
ride down a snowy hill: a sledge
saw a branch off: a saw
read tiny letters: a magnifying glass
wake up at five: an alarm clock
iron a shirt: an iron
catch a fish: a fishing rod
clean the teeth: a toothbrush
hear the news in the car: a radio
draw a straight line: a ruler
tighten a screw: a screwdriver
weigh the flour: scales
fasten the trousers: a belt
call a friend far away: a telephone
kick a goal: a ball
light a candle: matches
pump up a tyre: an air pump
cut the grass: a lawnmower
"""

# what has happened, and who is called
CALLERS = """
the kitchen pipe leaks: a plumber
a tooth hurts: a dentist
the cat does not eat: a vet
the house is on fire: the fire brigade
a purse was stolen: the police
the lights go out in every room: an electrician
the roof lost its tiles: a roofer
the wedding needs photos: a photographer
the piano is out of tune: a piano tuner
the front door lock is stuck: a locksmith
the hair is too long: a hairdresser
the car does not start: a mechanic
the suit is too wide: a tailor
the heel came off a shoe: a cobbler
a table has to be built: a carpenter
the eyes see only a blur: an optician
there are wasps under the roof: pest control
the walls need a new colour: a painter
a letter has to be put into Spanish: a translator
a contract has to be checked: a lawyer
the child has a fever: a doctor
the flowers for the feast are missing: a florist
the taxes are a riddle: an accountant
sofa and beds go to the new flat: a removal firm
"""

ASKED = {
    "tools": ["{who} wants to {what}.", "{who} has to {what}. What is needed?", "To {what}, {who} takes:"],
    "callers": ["At {who}'s, {what}.", "{who} says that {what}. Who can help?", "Because {what}, {who} calls:"],
}


def pairs(text: str) -> list[tuple[str, str]]:
    """What is asked, and what is right."""
    return [tuple(line.split(": ")) for line in text.strip().splitlines()]


def rows(task: str, known: list[tuple[str, str]], each: int, draw: random.Random) -> list[dict[str, object]]:
    """Each pair so many times, in other words and among other answers."""
    found = {}
    for what, right in known:
        while sum(one[0] == what for one in found) < each:
            wrong = draw.sample([answer for _, answer in known if answer != right], CHOICES - 1)
            choices = draw.sample([right, *wrong], CHOICES)
            text = draw.choice(ASKED[task]).format(who=draw.choice(PEOPLE), what=what)
            found[what, text] = {"text": text, "choices": choices, "label": choices.index(right)}
    return draw.sample(list(found.values()), len(found))


def main() -> None:
    for task, text, learnt, each in (("tools", TOOLS, 32, 8), ("callers", CALLERS, 10, 5)):
        draw, known = random.Random(task), pairs(text)
        draw.shuffle(known)
        folder = HERE / "data" / task
        folder.mkdir(parents=True, exist_ok=True)
        for split, part in (("train", known[:learnt]), ("dev", known[learnt:])):
            lines = [json.dumps(one) + "\n" for one in rows(task, part, each, draw)]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
