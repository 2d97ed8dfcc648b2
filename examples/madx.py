"""MAD-X (Pfeiffer et al. 2020, arXiv:2005.00052) on real data: tasks learnt in English, read in German and French.

    python examples/madx.py --data FOLDER --out runs/madx

FOLDER has `ner_wikiann/{en,de,fr}` and `xlmt_sentiment/{english,german,french}`, each with train, dev and test as
`.jsonl.gz`; nothing of it is kept but in the folder that is given by --out. MiniLM gets one head for words, which learns from
the texts of all languages and is then fixed. Three runs are compared: adapters of tasks alone, over adapters of languages
(Pfeiffer, reduction factor 2), and over those with the invertible adapter at the embeddings. What was interrupted goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from transformers.utils import logging

from graftwork.experiments import Recipe, Unit, Watcher, run
from graftwork.report.formatting import metric_label, score
from graftwork.report.table import Table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "recipes"))

from words import MODEL, write_base  # noqa: E402  # beside the recipes

LANGUAGES = {"en": "english", "de": "german", "fr": "french"}
SOURCE = "en"
TASKS = {"ner": "tagging", "sentiment": "classification"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "alone": ("task adapter alone", {}),
    "language": ("over language adapters", {"method": "pfeiffer", "reduction_factor": 2}),
    "invertible": ("over invertible language adapters", {"method": "invertible_pfeiffer"}),
}


def read(data: Path, task: str, language: str, split: str) -> list[dict[str, Any]]:
    """The rows of a task in a language, labels by their names."""
    folder = data / (f"ner_wikiann/{language}" if task == "ner" else f"xlmt_sentiment/{LANGUAGES[language]}")
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if task == "ner":
        return rows
    names = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["labels"]
    return [{"text": row["text"], "label": names[row["label"]]} for row in rows]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def prepare(data: Path, out: Path, options: argparse.Namespace) -> None:
    """Write a part of the data, drawn once and for all, the texts of each language, and the base with its head."""
    draw = random.Random(0)

    def some(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
        return draw.sample(rows, min(count, len(rows)))

    every: list[str] = []
    for language in LANGUAGES:
        texts: list[str] = []
        for task in TASKS:
            rows = some(read(data, task, language, "train"), options.texts // 2)
            texts += [
                " ".join(" ".join(row["tokens"]).split() if task == "ner" else row["text"].split()) for row in rows
            ]
            write_rows(out / task / f"{language}.jsonl", some(read(data, task, language, "test"), options.test))
        (out / f"{language}.txt").write_text("\n".join(text for text in texts if text) + "\n", encoding="utf-8")
        every += texts
    for task in TASKS:
        write_rows(out / task / "train.jsonl", some(read(data, task, SOURCE, "train"), options.rows))
        write_rows(out / task / "dev.jsonl", some(read(data, task, SOURCE, "dev"), options.dev))
    write_base(every, out / "base", epochs=options.head_epochs, max_length=options.max_length)


def recipe(variant: str, options: argparse.Namespace) -> Recipe:
    """The recipe of one run."""
    _, adapter = VARIANTS[variant]
    over = {"language": SOURCE} if adapter else {}
    tasks = {
        task: {
            "kind": kind,
            "train": f"{task}/train.jsonl",
            "dev": f"{task}/dev.jsonl",
            "test": f"{task}/{SOURCE}.jsonl",
            "evaluate_in": {language: f"{task}/{language}.jsonl" for language in LANGUAGES if language != SOURCE},
            **({"pooling": "mean"} if kind == "classification" else {}),
            **over,
        }
        for task, kind in TASKS.items()
    }
    languages = {"languages": {name: {"text": f"{name}.txt"} for name in LANGUAGES}, "language_adapter": adapter}
    budget = {"epochs": options.epochs, "batch_size": 16, "learning_rate": options.lr}
    words = {"epochs": options.language_epochs, "learning_rate": options.language_lr}
    return Recipe.make(
        {
            "base": {"model": "base", "max_length": options.max_length},
            "adapter": {"method": "pfeiffer", "reduction_factor": 16},
            "tasks": tasks,
            "training": {**budget, "language": words},
            **(languages if adapter else {}),
        }
    )


def table(found: dict[str, dict[str, Any]]) -> list[Table]:
    """A table for each task, and one of how well the adapters of languages know the words."""
    others = [language for language in LANGUAGES if language != SOURCE]
    made = []
    for task in TASKS:
        rows = {variant: next(r for r in results["sources"] if r["task"] == task) for variant, results in found.items()}
        metric = next(iter(rows.values()))["metric"]
        lines = []
        for variant, (said, _) in VARIANTS.items():
            row = rows[variant]
            values = [score(v, metric) for v in (row["mean"], *(row["elsewhere"][o]["mean"] for o in others))]
            lines.append([said, *values])
        columns = ["", f"{SOURCE} (test)", *(f"→ {other}" for other in others)]
        made.append(Table(f"{task}: {metric_label(metric)}, learnt in {SOURCE}", columns, lines, []))
    lines = [
        [VARIANTS[variant][0], *(f"{row['mean']:.2f}" for row in results["languages"])]
        for variant, results in found.items()
        if results["languages"]
    ]
    if lines:
        made.append(Table("Masked words: mean log-probability of held-out texts", ["", *LANGUAGES], lines, []))
    return made


class Says(Watcher):
    """A line for each training that is done."""

    def ended(self, unit: Unit, result: Any) -> None:
        seconds = result["timings"]["train_seconds"]
        print(f"  {unit.id}: {result['metric']} {result['score']:.3f}, {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with ner_wikiann and xlmt_sentiment")
    parser.add_argument("--out", type=Path, default=Path("runs/madx"), help="everything that is written")
    parser.add_argument("--texts", type=int, default=1000, help="a language")
    parser.add_argument("--rows", type=int, default=1000, help="to learn a task from")
    parser.add_argument("--dev", type=int, default=200)
    parser.add_argument("--test", type=int, default=500, help="a language")
    parser.add_argument("--max-length", type=int, default=48)
    parser.add_argument("--head-epochs", type=int, default=2)
    parser.add_argument("--language-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="of the tasks")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--language-lr", type=float, default=1e-3)
    parser.add_argument("--markdown", type=Path, help="a file to write the tables into")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not (options.out / "base" / "config.json").is_file():
        prepare(options.data, options.out, options)
    found = {}
    for variant in VARIANTS:
        print(VARIANTS[variant][0], flush=True)
        found[variant] = run(recipe(variant, options), options.out / variant, root=options.out, watcher=Says())
    labels = Counter(row["label"] for row in map(json.loads, (options.out / "sentiment" / f"{SOURCE}.jsonl").open()))
    note = f"Always the commonest label of sentiment in {SOURCE}: {100 * max(labels.values()) / labels.total():.1f} %."
    pages = [one.markdown() for one in table(found)]
    print("\n".join(["", *pages, f"{MODEL}. {note}"]))
    if options.markdown:
        options.markdown.write_text("\n".join([*pages, f"{MODEL}. {note}", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
