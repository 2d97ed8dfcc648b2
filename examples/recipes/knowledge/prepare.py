"""Gives MiniLM a head for words, writes it as the base of this recipe, and makes the rows of its tasks.

    python examples/recipes/knowledge/prepare.py

The head reads the recipe's sentences with their objects dealt out again among the triples of a predicate: so it meets the
words and knows no fact.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from pathlib import Path

from transformers.utils import logging

from graftwork.experiments import Recipe
from graftwork.tasks.knowledge import Sentences, Triple, read_triples

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from words import write_base  # noqa: E402  # beside the recipes' folders

OUT = HERE / "out"
IS_A = "is_a"


def dealt(triples: list[Triple], draw: random.Random) -> list[Triple]:
    """The triples with the objects of each predicate dealt out again."""
    objects: dict[str, list[str]] = {}
    for triple in triples:
        objects.setdefault(triple.predicate, []).append(triple.object)
    for names in objects.values():
        draw.shuffle(names)
    return [Triple(triple.subject, triple.predicate, objects[triple.predicate].pop()) for triple in triples]


def pairs(kinds: dict[str, str], draw: random.Random, count: int) -> list[dict[str, str]]:
    """Pairs of animals, as many of one kind as of two."""
    found: dict[str, list[dict[str, str]]] = {"same": [], "different": []}
    for one, other in itertools.permutations(kinds, 2):
        label = "same" if kinds[one] == kinds[other] else "different"
        found[label].append({"text": f"the {one}", "text_pair": f"the {other}", "label": label})
    rows = [row for label in found for row in draw.sample(found[label], min(count // 2, len(found[label])))]
    draw.shuffle(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="one epoch, to see that everything runs")
    small = parser.parse_args().small
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    draw = random.Random(0)
    spec = Recipe.read(HERE / "recipe.toml").knowledge["animals"]
    triples = read_triples(HERE / spec.triples)
    sentences = Sentences((triple.predicate for triple in triples), spec.templates)
    texts = [sentences(triple) for triple in dealt(triples, draw)]
    write_base(texts[:64] if small else texts, OUT / "base", epochs=1 if small else 12, max_length=32, share=0.25)

    kinds = {triple.subject: triple.object for triple in triples if triple.predicate == IS_A}
    names = sorted(kinds)
    draw.shuffle(names)
    (OUT / "pairs").mkdir(parents=True, exist_ok=True)
    for split, some, count in (("dev", names[:16], 100), ("train", names[16:], 200)):
        rows = pairs({name: kinds[name] for name in some}, draw, count)
        (OUT / "pairs" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
