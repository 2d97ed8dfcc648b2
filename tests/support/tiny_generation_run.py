"""A run of tasks that a decoder answers, on a tiny Llama with a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graftwork.experiments import Recipe
from tests.support.tiny_chat import CHATML, byte_tokenizer, llama, talker

PAIRS = [
    (f"{word} film", "yes" if good else "no") for word, good in (("good", 1), ("bad", 0), ("nice", 1), ("dull", 0))
]


def _dialogue(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


ROWS: dict[str, list[dict[str, Any]]] = {
    "upper": [{"prompt": prompt, "target": prompt[:3].upper()} for prompt, _ in PAIRS],
    "talk": [{"messages": _dialogue(prompt, answer)} for prompt, answer in PAIRS],
    "judge": [{"prompt": prompt, "target": answer} for prompt, answer in PAIRS],
}
TASKS: dict[str, dict[str, Any]] = {
    "upper": {"max_new_tokens": 4, "system": "Shout.", "shots": 2},
    "talk": {"max_new_tokens": 4, "messages": "messages"},
    "judge": {"choices": ["yes", "no"], "shots": 1},
}


def generation_recipe(folder: Path, template: str | None = CHATML, **changes: Any) -> Recipe:
    """Write a base and the rows into a folder, and return a recipe for them with two targets."""
    base = talker(llama()).base.float()
    base.save_pretrained(folder / "base")
    byte_tokenizer(template).save_pretrained(folder / "base")
    for name, rows in ROWS.items():
        (folder / name).mkdir()
        for split in ("train", "dev"):
            (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = {
        "base": {"model": "base", "max_length": 256},
        "tasks": {name: {"kind": "generation", "data": name, **spec} for name, spec in TASKS.items()},
        "targets": ["upper", "judge"],
        "controls": ["zero_shot", "few_shot", "head", "average", "mt_shared"],
        "adapter": {"method": "lora", "rank": 2},
        "training": {"epochs": 1, "batch_size": 2, "learning_rate": 1e-2},
    }
    return Recipe.make({**tables, **changes})
