"""The table of docs/interop.md, of what tests have shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping

BEGIN, END = "<!-- printed by make test-interop: -->", "<!-- up to here -->"
MODELS = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "distilbert": "DistilBERT",
    "deberta_v2": "DeBERTa-v2",
    "gpt2": "GPT-2",
    "t5": "T5",
    "bart": "BART",
    "vit": "ViT",
}
# What a test has shown, and what the table says of all that was shown of a cell, in this order.
MEANING = {
    "failed": "FAILED",
    "refused": "refused",
    "not there": "–",
    "written": "both",
    "read": "read",
}
# A group, a row, a model, and what was shown of it.
Shown = Callable[[str, str, str, str], None]
Cells = dict[tuple[str, str], dict[str, set[str]]]


def table(cells: Mapping[tuple[str, str], Mapping[str, set[str]]]) -> str:
    """The table in Markdown: a row for each method, a column for each model."""
    lines = [f"| | {' | '.join(MODELS.values())} |", "|---" * (len(MODELS) + 1) + "|"]
    group = ""
    for (named, row), found in sorted(cells.items()):
        if named != group:
            group = named
            lines.append(f"| **{group}** |" + " |" * len(MODELS))
        lines.append(f"| {row} | {' | '.join(_cell(found.get(model, set())) for model in MODELS)} |")
    return "\n".join(lines)


def _cell(shown: set[str]) -> str:
    return next((text for what, text in MEANING.items() if what in shown), "")
