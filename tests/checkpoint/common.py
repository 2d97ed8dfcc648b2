"""What the tests of files share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.checkpoint.json_files import dump
from graftwork.checkpoint.naming import tensors_of
from tests.zoo.models import ZooModel, build, main_output

METHODS: dict[str, gw.AdapterConfig] = {
    "bottleneck": gw.Bottleneck(bottleneck_size=4),
    "scalar skip": gw.Bottleneck(bottleneck_size=4, skip="scalar", scale="learned"),
    "diagonal skip": gw.Bottleneck(bottleneck_size=4, skip="diagonal", scale="channel"),
    "low-rank skip": gw.Bottleneck(bottleneck_size=4, skip="low_rank", gate=True),
    "dense skip": gw.Bottleneck(bottleneck_size=4, skip="dense", norm_before=True, norm_after=True),
    "layers": gw.Bottleneck(reduction_factor={0: 4, "default": 8}, leave_out=(1,), up_bias=False),
    "houlsby": gw.Houlsby(bottleneck_size=4, norms="own"),
    "standard": gw.Standard(bottleneck_size=4),
    "pfeiffer": gw.Pfeiffer(reduction_factor=4),
    "bapna_firat": gw.BapnaFirat(bottleneck_size=4),
    "parallel": gw.Parallel(bottleneck_size=4),
    "adapter_plus": gw.AdapterPlus(),
    "compacter": gw.Compacter(bottleneck_size=8),
    "phm": gw.PHM(bottleneck_size=8, rank=2),
    "low_rank": gw.LowRank(bottleneck_size=4),
}


def attached(name: str = "bert_classifier", **options: Any) -> tuple[ZooModel, gw.Adapters]:
    """A model of the zoo with a handle."""
    zoo = build(name, **options)
    return zoo, gw.attach(zoo.model)


def moved(adapters: gw.Adapters, *names: str, seed: int = 7) -> None:
    """Every weight of some adapters and fusions off its start, so that nothing is zero by chance."""
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        for tensor in tensors_of(adapters, name).values():
            if tensor.is_floating_point():
                with torch.no_grad():
                    tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator).to(tensor))


def added(adapters: gw.Adapters, **configs: gw.AdapterConfig) -> None:
    """Adapters with random weights, the same ones for the same call."""
    for name, config in configs.items():
        torch.manual_seed(len(adapters.names))
        adapters.add(name, config)
        moved(adapters, name, seed=len(adapters.names))


def output(zoo: ZooModel, composition: gw.Composition, **options: Any) -> Tensor:
    """What a model computes with a composition."""
    with torch.no_grad(), gw.of(zoo.model).using(composition, **options):
        return main_output(zoo.model(**zoo.inputs))


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all there is in a model."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_state(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def edit_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a folder's manifest by hand, and the hashes of it with it."""
    path = folder / "graftwork.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_bytes(dump(data))
    whole = folder.parent.parent / "graftwork.json"
    if whole.is_file():
        place, digest = folder.relative_to(whole.parent).as_posix(), json.loads(path.read_text())["digest"]
        edit_json(whole.parent, lambda data: data["contents"].update({place: digest}))


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change a folder's tensors by hand."""
    (path,) = folder.glob("*.safetensors")
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)
