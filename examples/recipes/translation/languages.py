"""A made-up language, its grammar and dictionary, in three varieties, beside English of the same meaning.

The verb comes last, an adjective behind its noun, and "the" is an ending. Nouns are of two classes, and their adjectives
agree with them in class and number; the verb agrees with its subject and has a mark of its time. So a word's translation
depends on others, and words change places: looking them up one by one does not do.

    the old farmers will see one dog  ->  tamurili gorosori veku samirari
"""

from __future__ import annotations

import dataclasses
import random

# English: the word and its class (0 or 1)
VILLAGE_NOUNS = {
    "farmer": ("tamu", 0), "dog": ("veku", 1), "child": ("pilo", 0), "house": ("dorna", 1), "tree": ("skel", 0),
    "teacher": ("maniko", 0), "horse": ("brusa", 1), "river": ("olme", 1), "bird": ("tifi", 0), "baker": ("hando", 0),
    "field": ("garpa", 1), "cow": ("muben", 1),
}  # fmt: skip
HARBOUR_NOUNS = {
    "boat": ("fluka", 1), "sailor": ("narvo", 0), "net": ("resti", 1), "captain": ("kolder", 0), "crate": ("bimso", 0),
    "island": ("iskala", 1), "gull": ("krea", 1), "rope": ("tauso", 0),
}  # fmt: skip
VILLAGE_VERBS = {"see": "mira", "follow": "sekva", "love": "duli", "paint": "borta", "help": "yomi", "know": "zena"}
HARBOUR_VERBS = {"load": "hapka", "steer": "vendu", "pull": "trago", "sink": "bulma"}
ADJECTIVES = {"old": "goros", "small": "nim", "red": "rudal", "happy": "lefan", "tall": "strig", "quiet": "shum"}
TIMES = {"": "", "yesterday": "antau", "tomorrow": "morgi", "every day": "shiuta"}
TENSES = {"past": "ke", "present": "", "future": "sa"}
PLURAL, THE = "ri", "li"


@dataclasses.dataclass(frozen=True)
class Noun:
    """A noun with its adjective."""

    english: str
    definite: bool
    plural: bool
    adjective: str | None


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a sentence says, in no language."""

    subject: Noun
    verb: str
    tense: str
    thing: Noun
    time: str


def meaning(nouns: dict, verbs: dict, draw: random.Random) -> Meaning:
    """Something to say."""
    first, second = draw.sample(list(nouns), 2)

    def noun(english: str) -> Noun:
        adjective = draw.choice(list(ADJECTIVES)) if draw.random() < 0.5 else None
        return Noun(english, draw.random() < 0.5, draw.random() < 0.4, adjective)

    tense = draw.choice(list(TENSES))
    times = {"past": ["", "yesterday"], "present": ["", "every day"], "future": ["", "tomorrow"]}[tense]
    return Meaning(noun(first), draw.choice(list(verbs)), tense, noun(second), draw.choice(times))


# ------------------------------------------------------------------------------------------------- English


def english(said: Meaning) -> str:
    """The sentence in English."""
    many = said.subject.plural
    if said.tense == "future":
        verb = f"will {said.verb}"
    elif said.tense == "past":
        verb = f"did {said.verb}"
    else:
        verb = said.verb if many else f"{said.verb}s"
    return " ".join(part for part in (_english(said.subject), verb, _english(said.thing), said.time) if part)


def _english(noun: Noun) -> str:
    word = {"child": "children"}.get(noun.english, f"{noun.english}s") if noun.plural else noun.english
    article = "the" if noun.definite else "some" if noun.plural else "one"
    return " ".join(part for part in (article, noun.adjective, word) if part)


# -------------------------------------------------------------------------------------- the made-up language


def plain(said: Meaning) -> str:
    """The sentence in the plain language: time, subject, object, verb."""
    parts = (TIMES[said.time], _noun(said.subject), _noun(said.thing), _verb(said))
    return " ".join(part for part in parts if part)


def hills(said: Meaning) -> str:
    """The sentence in the dialect of the hills: the verb first, the time last, and other sounds."""
    parts = (_verb(said), _noun(said.subject), _noun(said.thing), TIMES[said.time])
    text = " ".join(part for part in parts if part)
    for old, new in (("k", "g"), ("sh", "ch"), ("v", "w")):
        text = text.replace(old, new)
    return text


def _noun(noun: Noun) -> str:
    word, kind = {**VILLAGE_NOUNS, **HARBOUR_NOUNS}[noun.english]
    number = PLURAL if noun.plural else ""
    head = word + number + (THE if noun.definite else "")
    if noun.adjective is None:
        return head
    return f"{head} {ADJECTIVES[noun.adjective]}{'oe'[kind]}{number}"


def _verb(said: Meaning) -> str:
    word = {**VILLAGE_VERBS, **HARBOUR_VERBS}[said.verb]
    return TENSES[said.tense] + word + (PLURAL if said.subject.plural else "n")


# --------------------------------------------------------------------------------------------------- rows


def rows(variety: str, count: int, seed: str) -> list[dict[str, str]]:
    """So many sentences of ``"village"``, ``"harbour"`` or ``"hills"`` with their translations, none of them twice.

    A sentence from the harbour is about things of the harbour and of the village; one in the dialect is about the village.
    """
    draw, found = random.Random(f"{variety} {seed}"), {}
    nouns, verbs = VILLAGE_NOUNS, VILLAGE_VERBS
    if variety == "harbour":  # its own words and some that are known already
        nouns = {**HARBOUR_NOUNS, **{noun: VILLAGE_NOUNS[noun] for noun in ("dog", "child", "bird", "baker")}}
        verbs = {**HARBOUR_VERBS, "see": VILLAGE_VERBS["see"], "help": VILLAGE_VERBS["help"]}
    while len(found) < count:
        said = meaning(nouns, verbs, draw)
        found.setdefault(english(said), hills(said) if variety == "hills" else plain(said))
    return [{"text": text, "target": target} for text, target in found.items()]
