"""Two kinds of knowledge, learnt apart by side networks over one frozen model, and used together.

A small random BERT is the model. Every word of a vocabulary has a colour and a shape, drawn by chance. One K-Adapter learns
the colours, and after it, without it, another the shapes. Then a linear probe on the first position asks for both: it is shown
some of the words, and tested on the others, about which the model and the probe know nothing.

    python examples/k_adapter.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import graftwork as gw

WORDS, NOISE, KINDS, LENGTH, WIDTH, SHOWN = 64, 20, 4, 8, 64, 40
COMPOSITIONS: dict[str, gw.Composition] = {
    "the model alone": None,
    "colours alone": "colours",
    "shapes alone": "shapes",
    "both, added": gw.Average("colours", "shapes", weights=[1, 1], normalize=False),
    "both, by a learned Concat": gw.Concat("colours", "shapes", name="both"),
}


def sentences(words: Tensor) -> dict[str, Tensor]:
    """One sentence for each word: noise with the word somewhere behind the first position, some of the end padded."""
    ids = torch.randint(2, 2 + NOISE, (len(words), LENGTH))
    ids[:, 0] = 1
    places = torch.randint(1, LENGTH - 2, (len(words),))
    ids[torch.arange(len(words)), places] = words + 2 + NOISE
    ends = torch.randint(LENGTH - 2, LENGTH + 1, (len(words),))
    mask = torch.arange(LENGTH)[None, :] < ends[:, None]
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def learn(weights: list[nn.Parameter], loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """Some steps of AdamW."""
    optimiser = torch.optim.AdamW(weights, lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()


def first_states(model: Any, words: Tensor) -> Tensor:
    """The state at the first position of a sentence about each word."""
    return model(**sentences(words)).last_hidden_state[:, 0]  # type: ignore[no-any-return]


def learn_facts(adapters: gw.Adapters, name: str, facts: Tensor, steps: int) -> None:
    """Train one K-Adapter on the facts of all words, with a head that is thrown away."""
    adapters.add(name, gw.KAdapter(combine="add", size=48, heads=4, inner=96))
    adapters.train_only(name)
    head = nn.Linear(WIDTH, KINDS)

    def loss() -> Tensor:
        words = torch.randint(WORDS, (64,))
        return F.cross_entropy(head(first_states(adapters.model, words)), facts[words])

    adapters.model.train()
    learn([*head.parameters(), *(p for p in adapters.model.parameters() if p.requires_grad)], loss, steps, 2e-3)
    adapters.model.eval()


def probed(adapters: gw.Adapters, facts: dict[str, Tensor], steps: int) -> dict[str, float]:
    """Accuracy of linear probes on words they were not shown: of each fact, and of both at once."""
    shown, asked = torch.arange(SHOWN), torch.arange(SHOWN, WORDS)
    heads = {kind: nn.Linear(WIDTH, KINDS) for kind in facts}

    def loss() -> Tensor:
        states = first_states(adapters.model, shown)
        return sum((F.cross_entropy(head(states), facts[k][shown]) for k, head in heads.items()), torch.zeros(()))

    mine = [p for head in heads.values() for p in head.parameters()]
    learn([*mine, *(p for p in adapters.model.parameters() if p.requires_grad)], loss, steps, 1e-2)
    many = asked.repeat(20)
    with torch.no_grad():
        states = first_states(adapters.model, many)
        right = {kind: head(states).argmax(-1) == facts[kind][many] for kind, head in heads.items()}
    scores = {kind: 100 * float(hits.float().mean()) for kind, hits in right.items()}
    return {**scores, "both right": 100 * float(torch.stack(list(right.values())).all(0).float().mean())}


def one_seed(seed: int, steps: int) -> dict[str, dict[str, float]]:
    """All rows of the table for one model, one drawing of the facts."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=2 + NOISE + WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    adapters = gw.attach(transformers.BertModel(config).eval())
    facts = {kind: torch.randint(KINDS, (WORDS,)) for kind in ("colours", "shapes")}
    learn_facts(adapters, "colours", facts["colours"], steps)
    before = {n: p.detach().clone() for m in adapters.modules_of("colours").values() for n, p in m.named_parameters()}
    learn_facts(adapters, "shapes", facts["shapes"], steps)
    after = {n: p for m in adapters.modules_of("colours").values() for n, p in m.named_parameters()}
    if not all(torch.equal(before[n], after[n]) for n in before):
        raise SystemExit("the first adapter has changed while the second learnt")
    found = {}
    for row, composition in COMPOSITIONS.items():
        if isinstance(composition, gw.Concat):
            adapters.add_fusion(composition)
            adapters.train_only(composition)
        else:
            adapters.train_only([], active=composition)
        found[row] = probed(adapters, facts, steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    seeds = [one_seed(seed, chosen.steps) for seed in range(chosen.seeds)]
    print(f"accuracy in % on {WORDS - SHOWN} words that the probe was not shown, mean ± sd of {chosen.seeds} seeds")
    print(f"(by chance: {100 / KINDS:.0f} %, both right {100 / KINDS**2:.0f} %)\n")
    columns = list(next(iter(seeds[0].values())))
    print(f"|  | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for row in COMPOSITIONS:
        cells = []
        for column in columns:
            values = [seed[row][column] for seed in seeds]
            sd = f" ± {statistics.stdev(values):.0f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.0f}{sd}")
        print(f"| {row} | {' | '.join(cells)} |")
    print("\nThe colours adapter is, bit for bit, as it was before the shapes were learnt.")


if __name__ == "__main__":
    main()
