"""Two ranks that share the weights of a base train what one process trains; what cannot be right is refused by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor

import graftwork as gw
from graftwork.attach.sharded_base import follow_sharding
from graftwork.training import leave_adapters_out
from graftwork.weights.sharded import Replicas
from tests.support import sharded_ranks as case

ROOT = Path(case.__file__).parents[2]
PAGE = ROOT / "docs" / "scale.md"
EXACT = {"rtol": 1e-9, "atol": 1e-9}

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")


def variables_of(launch: str) -> dict[str, str]:
    """What accelerate sets for the processes of a command line."""
    words = [str(ROOT / word) if "/" in word else word for word in launch.split()]
    parsed, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    return {name: value for name, value in prepare_multi_gpu_env(parsed).items() if "FSDP" in name}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of two ranks, and what each found; they run once for all workers of pytest-xdist."""
    worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = (tmp_path_factory.getbasetemp().parent if worker else tmp_path_factory.getbasetemp()) / "ranks"
    folder.mkdir(exist_ok=True)
    files = [folder / f"rank{rank}.pt" for rank in range(2)]
    with FileLock(folder / "lock"):
        if not all(file.exists() for file in files):
            _run(folder)
    return folder, [torch.load(file, weights_only=False) for file in files]


def _run(folder: Path) -> None:
    found = re.search(
        r"^    accelerate launch (--config_file \S+ (examples/\S+))$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert found is not None
    (folder / "variables.json").write_text(json.dumps(variables_of(found[1])))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    env = {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    command = [*start, case.__file__, str(folder), str(ROOT / found[2])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    return [name for name in one.keys() | other.keys() if not torch.equal(one[name], other[name])]


def test_every_rank_has_the_same_bits(ranks: Any) -> None:
    _, (first, second) = ranks
    for name in ("bert", "llama"):
        assert differ(first[name]["weights"], second[name]["weights"]) == []
        assert differ(first[name]["outputs"], second[name]["outputs"]) == []
    for name in ("late", "again", "root", "compiled", "trainer", "resumed"):
        assert first[name] and differ(first[name], second[name]) == []


@pytest.mark.parametrize("kind", case.LAYERS)
def test_the_training_is_that_of_one_process(ranks: Any, kind: str) -> None:
    _, (found, _) = ranks
    model, adapters = case.with_adapters(kind, seed=10)
    before = case.weights(adapters)
    expected = case.trained(kind, model, adapters, slice(None))
    assert len(differ(before, expected["weights"])) > 20  # it was trained
    torch.testing.assert_close(found[kind], expected, **EXACT)
    if kind == "llama":
        torch.manual_seed(0)
        adapters.add("late", gw.Pfeiffer(reduction_factor=4, dtype="float64"))
        case.learn(kind, model, adapters, "late", slice(None))
        torch.testing.assert_close(found["late"], case.weights(adapters), **EXACT)


def test_a_model_in_one_group_is_trained_too(ranks: Any) -> None:
    _, (found, _) = ranks
    model, adapters = case.with_adapters("bert", seed=10)
    case.learn("bert", model, adapters, "a", slice(None))
    torch.testing.assert_close(found["root"], case.weights(adapters), **EXACT)


def test_compiled_code_trains_the_same(ranks: Any) -> None:
    _, (found, _) = ranks
    model, adapters = case.with_adapters("llama", seed=10, layers=1)
    for name in ("a", "ab"):
        case.learn("llama", model, adapters, name, slice(None), steps=1)
    torch.testing.assert_close(found["compiled"], case.weights(adapters), **EXACT)


@pytest.mark.parametrize("kind", case.LAYERS)
def test_what_the_first_rank_saves_loads_on_a_whole_base(ranks: Any, kind: str) -> None:
    folder, (first, _) = ranks
    model = case.base(kind)
    adapters = gw.attach(model)
    adapters.add("b", gw.Pfeiffer(reduction_factor=2, dtype="float64"))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "graftwork" in name.split("."):
                tensor.copy_(first[kind]["weights"][name])
    for name in ("a", "l"):
        adapters.load(folder / kind / name)
    adapters.load(folder / kind / "ab")
    saved = case.weights(adapters)
    assert differ(saved, {name: first[kind]["weights"][name] for name in saved}) == []
    torch.testing.assert_close(case.outputs(kind, model, adapters), first[kind]["outputs"], **EXACT)


def test_a_trainer_shards_saves_and_resumes(ranks: Any, tmp_path: Path) -> None:
    folder, (found, _) = ranks
    model, adapters = case.with_adapters("bert", seed=10)
    expected = case.by_trainer(model, adapters, tmp_path, rows=4)
    torch.testing.assert_close(found["trainer"], expected, **EXACT)
    assert differ(found["trainer"], found["resumed"]) == []
    files = {file.name for file in (folder / "trainer" / "checkpoint-4").rglob("*") if file.is_file()}
    assert not any("fsdp" in name or name.startswith("model") for name in files), files  # nothing of the base
    adapters = gw.attach(case.base("bert"))
    adapters.load(folder / "trainer" / "checkpoint-4" / "graftwork")
    assert adapters.names == ("a",)
    saved = case.weights(adapters)
    assert differ(saved, {name: found["trainer"][name] for name in saved}) == []


REFUSED = {
    "attach": "sharded already",
    "head": "each adapter owns a copy of the head",
    "norms": "copies the norm",
    "dora": "use LoRA",
    "peft": "peft changes modules of the base",
    "merge": "merge_into_base",
    "export": "export",
    "save_base": "save_base",
    "trained base": r"train_only\('a', base='trained'\)",
    "own head": r"train_only\(None",
    "forgotten bert": "leave_adapters_out",
    "forgotten root": "leave_adapters_out",
    "norms trained": "base='frozen'",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_needs_whole_weights_is_refused(ranks: Any, what: str) -> None:
    for found in ranks[1]:
        assert set(found["refused"]) == set(REFUSED)
        with pytest.raises(AssertionError, match=REFUSED[what]):
            raise AssertionError(found["refused"][what])
    assert ranks[1][0]["refused"][what] == ranks[1][1]["refused"][what]


def test_the_command_of_the_page_trains_the_same_with_a_sharded_base(ranks: Any) -> None:
    """The example as it is, by the file that the page names: adapters that are added after the base was sharded, an answer."""
    folder, _ = ranks
    for name in ("lora", "pfeiffer"):
        whole, sharded = (load_file(folder / base / name / "adapter.safetensors") for base in ("whole", "sharded"))
        torch.testing.assert_close(whole, sharded, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------- without other ranks


def plugin(**options: Any) -> Any:
    return SimpleNamespace(
        **{
            "fsdp_version": 2,
            "cpu_ram_efficient_loading": False,
            "activation_checkpointing": False,
            "ignored_modules": None,
            **options,
        }
    )


def test_adapters_are_ignored_next_to_other_modules() -> None:
    one = plugin(ignored_modules="lm_head")
    leave_adapters_out(one)
    leave_adapters_out(one)
    assert one.ignored_modules == r"lm_head|(.*\.)?graftwork"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fsdp_version": 1}, "give fsdp_version=2"),
        ({"cpu_ram_efficient_loading": True}, "give cpu_ram_efficient_loading=False"),
        ({"activation_checkpointing": True}, "gradient_checkpointing_enable"),
        ({"ignored_modules": [torch.nn.Linear(1, 1)]}, "regular expression"),
    ],
)
def test_a_plugin_that_cannot_leave_them_out_is_refused(options: dict[str, Any], words: str) -> None:
    one = plugin(**options)
    with pytest.raises(gw.AttachError, match=words):
        leave_adapters_out(one)
    assert one.ignored_modules == options.get("ignored_modules")


def test_a_launch_that_loads_the_base_on_one_rank_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = case.base("bert")
    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    gw.attach(model).detach()  # one process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(gw.AttachError, match="--fsdp_cpu_ram_efficient_loading false"):
        gw.attach(model)


def test_deepspeed_zero_3_is_refused() -> None:
    model, adapters = case.with_adapters("bert", seed=0)
    next(model.parameters()).ds_id = 0  # as DeepSpeed marks what it has partitioned
    with pytest.raises(gw.AttachError, match=r"ZeRO-3 has partitioned 'bert.*word_embeddings"):
        follow_sharding(adapters, Replicas())
    adapters.detach()
    with pytest.raises(gw.AttachError, match="fsdp_version=2"):
        gw.attach(model)


def test_the_first_version_of_fsdp_is_refused_where_it_ignores_adapters() -> None:
    model, adapters = case.with_adapters("bert", seed=0)
    adapters.train_only("a")
    next(model.parameters())._fsdp_flattened = True  # as torch marks what it has flattened
    with pytest.raises(gw.AttachError, match="give fsdp_version=2"):
        follow_sharding(adapters, Replicas())
