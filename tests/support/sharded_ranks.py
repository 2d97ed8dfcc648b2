"""What tests/training/test_sharded.py starts on two ranks: trainings on a sharded base, and what is refused there.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/support/sharded_ranks.py FOLDER EXAMPLE

The example runs with a whole base on each rank, and with one that is sharded as the variables in ``FOLDER/variables.json`` say.
`trained` also runs in one process, on whole batches, for comparison.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers as hf
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils.data import SequentialSampler

import graftwork as gw
from graftwork.training import AdapterTrainer, leave_adapters_out

SIZES: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
LAYERS = {"bert": "BertLayer", "llama": "LlamaDecoderLayer"}
FUSE = gw.Fuse("a", "b", name="ab")
PARTS = ("a", "l", "ab")
STEPS = 3
LR = 1e-2


def base(kind: str, layers: int = 2) -> Any:
    """A small model in float64 without dropout, the same on all ranks."""
    torch.manual_seed(0)
    sizes = {**SIZES, "num_hidden_layers": layers}
    if kind == "llama":
        config: Any = hf.LlamaConfig(**sizes, vocab_size=40, num_key_value_heads=2)
        return hf.LlamaForCausalLM(config).double().eval()
    config = hf.BertConfig(**sizes, vocab_size=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return hf.BertForSequenceClassification(config).double().eval()


def with_adapters(kind: str, seed: int, layers: int = 2) -> tuple[Any, gw.Adapters]:
    """Such a model with adapters whose first weights depend on the seed."""
    model = base(kind, layers)
    adapters = gw.attach(model)
    torch.manual_seed(seed)
    adapters.add("a", gw.Pfeiffer(reduction_factor=4, dtype="float64"))
    adapters.add("b", gw.Pfeiffer(reduction_factor=2, dtype="float64"))
    adapters.add("l", gw.LoRA(rank=2, targets="all", dtype="float64"))
    adapters.add("d", gw.DoRA(rank=2, targets=["query", "v_proj"], dtype="float64"))
    adapters.add_fusion(FUSE, gw.FusionConfig(dtype="float64"))
    return model, adapters


def batch(kind: str, number: int, rows: slice = slice(None)) -> dict[str, Tensor]:
    """Some rows of a batch of four."""
    draw = torch.Generator().manual_seed(number)
    words = torch.randint(40, (4, 5), generator=draw)
    labels = words if kind == "llama" else torch.randint(2, (4,), generator=draw)
    return {"input_ids": words[rows], "labels": labels[rows]}


def learn(kind: str, model: Any, adapters: gw.Adapters, name: str, rows: slice, steps: int = STEPS) -> None:
    """Train a part for some steps of two micro-batches each, with clipping."""
    adapters.train_only(name)
    model.train()
    optimizer = torch.optim.AdamW(adapters.trainable_parameters(), lr=LR)
    for step in range(steps):
        for micro in range(2):
            (model(**batch(kind, 2 * step + micro, rows)).loss / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def weights(adapters: gw.Adapters) -> dict[str, Tensor]:
    """Copies of all weights of adapters."""
    found = adapters.model.state_dict()
    return {name: tensor.clone() for name, tensor in found.items() if "graftwork" in name.split(".")}


def outputs(kind: str, model: Any, adapters: gw.Adapters) -> dict[str, Tensor]:
    """The logits of each part for one batch."""
    found = {}
    for name in PARTS:
        with torch.no_grad(), adapters.using(name):
            found[name] = model(batch(kind, 99)["input_ids"]).logits
    return found


def trained(kind: str, model: Any, adapters: gw.Adapters, rows: slice) -> dict[str, Any]:
    """Train a bottleneck, a LoRA, a DoRA, and a fusion of bottlenecks, one after the other."""
    for name in ("a", "b", "l", "d", "ab"):
        learn(kind, model, adapters, name, rows)
    return {"weights": weights(adapters), "outputs": outputs(kind, model, adapters)}


def shard_by(accelerator: Accelerator, kind: str | None = None) -> FullyShardedDataParallelPlugin:
    """Have an accelerator shard, by default as the environment says. It does so on GPUs alone; its code runs on CPUs too."""
    plugin = FullyShardedDataParallelPlugin()
    if kind is not None:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=[LAYERS[kind]],
        )
    accelerator.state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    return plugin


class Sequential(AdapterTrainer):
    """A trainer that takes the rows in their order, and shards where there are several ranks, as `accelerator_for` does."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.accelerator.num_processes > 1:
            self.is_fsdp_enabled = True
            shard_by(self.accelerator, "bert")

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def by_trainer(model: Any, adapters: gw.Adapters, folder: Path, rows: int, resume: Any = None) -> dict[str, Tensor]:
    """Train with AdapterTrainer, a checkpoint after each of four steps."""
    adapters.train_only("a")
    args = hf.TrainingArguments(
        str(folder),
        per_device_train_batch_size=rows,
        max_steps=4,
        average_tokens_across_devices=False,
        save_steps=1,
        learning_rate=LR,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    data = [{k: v[0] for k, v in batch("bert", n, slice(1)).items()} for n in range(16)]
    Sequential(model, args, train_dataset=data).train(resume_from_checkpoint=resume)  # type: ignore[arg-type]
    return weights(adapters)


# ----------------------------------------------------------------------------------------------------------- on a rank


def accelerator_for(kind: str) -> tuple[Accelerator, FullyShardedDataParallelPlugin]:
    """An accelerator that shards, and its plugin."""
    accelerator = Accelerator(cpu=True)
    return accelerator, shard_by(accelerator, kind)


def sharded(kind: str, rank: int, layers: int = 2) -> tuple[Any, gw.Adapters]:
    """A model whose base accelerate has sharded, with adapters that are other ones on each rank."""
    accelerator, plugin = accelerator_for(kind)
    model, adapters = with_adapters(kind, 10 + rank, layers)
    leave_adapters_out(plugin)
    adapters.train_only("a")
    accelerator.prepare(model, torch.optim.AdamW(adapters.trainable_parameters()))
    return model, adapters


def message(do: Callable[[], Any]) -> str:
    """The message of the error that is raised."""
    try:
        do()
    except gw.GraftworkError as error:
        return str(error)
    return "no error"


def step(model: Any, kind: str = "bert") -> None:
    model.train()(**batch(kind, 0, slice(2))).loss.backward()


def refused(folder: Path, rank: int) -> dict[str, str]:
    """The messages of what is refused on a sharded base."""
    model, adapters = sharded("bert", rank)
    _, of_llama = sharded("llama", rank)
    peft_config = peft.LoraConfig(r=2, target_modules=["q_proj"])
    found = {
        "attach": message(lambda: (sharded("bert", rank)[1].detach(), gw.attach(model.bert))),
        "head": message(lambda: adapters.add("x", "pfeiffer")),
        "norms": message(lambda: of_llama.add("x", gw.Houlsby(norms="own"))),
        "dora": message(lambda: of_llama.add("x", gw.DoRA(targets="all"))),
        "peft": message(lambda: of_llama.add("x", peft_config, native=False)),
        "merge": message(lambda: adapters.merge_into_base("l")),
        "export": message(lambda: adapters.export(folder / "program", "a", format="torch")),
        "save_base": message(lambda: adapters.save_base(folder / "base")),
        "trained base": message(lambda: adapters.train_only("a", base="trained")),
        "own head": message(lambda: adapters.train_only(None)),
    }
    for what in ("bert", "root"):  # in the second, all weights are whole while the model runs
        forgotten, of_forgotten = with_adapters("bert", seed=0)
        of_forgotten.train_only("a")
        for layer in forgotten.bert.encoder.layer if what == "bert" else ():
            fully_shard(layer)
        fully_shard(forgotten)
        found[f"forgotten {what}"] = message(lambda model=forgotten: step(model))
    with_norms, of_norms = with_adapters("bert", seed=0)
    of_norms.train_only("a", base="norms")
    for layer in with_norms.bert.encoder.layer:
        fully_shard(layer, ignored_params=set(of_norms.trainable_parameters()) - set(with_norms.bert.parameters()))
    found["norms trained"] = message(lambda: step(with_norms))
    return found


class OnCpus(Accelerator):
    """An accelerator with the plugin that `accelerate launch` describes, used on CPUs too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        shard_by(self)


def run_example(file: Path, folder: Path) -> None:
    sys.path.insert(0, str(file.parent))
    example = importlib.import_module(file.stem)
    before = dict(os.environ)
    for name, accelerator in (("whole", Accelerator), ("sharded", OnCpus)):
        example.Accelerator = accelerator
        sys.argv = [file.name, "--steps", "4", "--out", str(folder / name)]
        example.main()
        os.environ.update(json.loads((folder / "variables.json").read_text()))
    assert AcceleratorState().is_fsdp2  # to the end
    os.environ.clear()
    os.environ.update(before)


def main(folder: Path, example: Path) -> None:
    run_example(example, folder)
    accelerator, _ = accelerator_for("bert")
    rank = accelerator.process_index
    rows = slice(2 * rank, 2 * rank + 2)
    found: dict[str, Any] = {}
    for kind in LAYERS:
        model, adapters = sharded(kind, rank)
        found[kind] = trained(kind, model, adapters, rows)
        if rank == 0:
            for name in PARTS:
                adapters.save(name, folder / kind / name)
        if kind == "llama":
            torch.manual_seed(rank)
            adapters.add("late", gw.Pfeiffer(reduction_factor=4, dtype="float64"))
            learn(kind, model, adapters, "late", rows)
            found["late"] = weights(adapters)
            torch.distributed.barrier()
            adapters.load(folder / kind / "a", "again")
            found["again"] = weights(adapters)

    model, adapters = with_adapters("bert", seed=10 + rank)  # all of it in one group
    fully_shard(model, ignored_params={p for n, p in model.named_parameters() if "graftwork" in n.split(".")})
    learn("bert", model, adapters, "a", rows)
    found["root"] = weights(adapters)
    model, adapters = sharded("llama", rank, layers=1)
    model.compile(backend="eager")
    for name in ("a", "ab"):
        learn("llama", model, adapters, name, rows, steps=1)
    found["compiled"] = weights(adapters)
    found["refused"] = refused(folder, rank)

    for name, resume in (("trainer", None), ("resumed", str(folder / "trainer" / "checkpoint-2"))):
        model, adapters = with_adapters("bert", seed=10)
        found[name] = by_trainer(model, adapters, folder / name, rows=2, resume=resume)
        assert isinstance(model, FSDPModule)  # the trainer has sharded it
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
