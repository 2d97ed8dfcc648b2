"""The tables of docs/migrating: each row as code of the other library and code of ours."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers as hf

import graftwork as gw

PAGES = Path(__file__).parents[2] / "docs" / "migrating"
Names = dict[str, Any]


class Row(NamedTuple):
    """A row: what it is about, and the code in its two cells; a table of configurations has no first cell."""

    about: str
    theirs: str
    ours: str


def rows(page: str) -> tuple[list[Row], list[Row]]:
    """The rows of calls of a page, in order, and those of configurations."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    calls, configs = [], []
    for line in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 3 and "`" in cells[2]:
            calls.append(Row(cells[0], _code(cells[1]), _code(cells[2])))
        elif len(cells) == 2 and "`" in cells[1]:
            configs.append(Row("", _code(cells[0]), _code(cells[1])))
    return calls, configs


def _code(cell: str) -> str:
    return "\n".join(re.findall(r"`([^`]+)`", cell))


def small_bert() -> Any:
    """A BERT of two layers with a head."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return hf.BertForSequenceClassification(hf.BertConfig(**sizes, vocab_size=50)).eval()


def both_sides(**more: Any) -> tuple[Names, Names]:
    """The names that the code of both sides begins with: one model twice."""
    model = small_bert()
    batch = {"input_ids": torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(1))}
    theirs = {"model": model, "batch": batch, **more}
    return theirs, {"model": copy.deepcopy(model), "batch": batch, "gw": gw, **more}


def trained(model: Any) -> int:
    """How many weights learn, without heads."""
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and not _of_head(name))


def _of_head(name: str) -> bool:
    return "classifier" in name or "pooler" in name or "heads." in name
