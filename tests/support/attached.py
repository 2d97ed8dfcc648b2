"""What the tests of attaching share: tiny models with heads, adapters that can be seen, snapshots of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from tests.zoo.models import build, main_output
from tests.zoo.registry import PAD, VOCAB, WIDTH, ZooModel

SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": PAD,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stir(modules: Any, seed: int = 0, size: float = 0.2) -> None:
    """Move every weight off its initial value, so that what is computed with it can be seen."""
    generator = seeded(seed)
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                p.add_(torch.randn(p.shape, generator=generator).to(p.dtype), alpha=size)


def made(model_class: Any, config: Any, seed: int = 0) -> Any:
    """A model of transformers with random weights, no two parts of it alike, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        stir([model], seed, 0.1)
    return model.eval()


def bert_classifier(labels: int = 3, **config: Any) -> Any:
    fields = {**SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": labels, **config}
    return made(hf.BertForSequenceClassification, hf.BertConfig(**fields))


def ids(rows: int = 4, length: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(4, VOCAB, (rows, length), generator=seeded(seed))


def attached(zoo: ZooModel) -> gw.Adapters:
    """A model of the zoo, attached; one that transformers did not make needs inputs to find its sites."""
    own = isinstance(zoo.model, hf.PreTrainedModel)
    return gw.attach(zoo.model, example_inputs=None if own else zoo.inputs)


def checkpoint(model: Any, reentrant: bool = False) -> None:
    """Turn gradient checkpointing on, as the installed transformers calls it."""
    name = "activation_checkpointing_enable" if hasattr(model, "activation_checkpointing_enable") else None
    getattr(model, name or "gradient_checkpointing_enable")({"use_reentrant": reentrant})


def with_adapters(name: str = "bert", **configs: Any) -> tuple[nn.Module, gw.Adapters, dict[str, Any]]:
    """A model of the zoo with the given adapters, stirred, and inputs for it."""
    zoo = build(name)
    adapters = attached(zoo)
    for n, (key, config) in enumerate((configs or {"a": gw.Pfeiffer(), "b": gw.Pfeiffer()}).items()):
        adapters.add(key, config)
        lively(adapters, key, seed=n + 1)
    return zoo.model, adapters, zoo.inputs


def lively(adapters: gw.Adapters, name: str, seed: int = 1, size: float = 0.2) -> None:
    """Stir one adapter or fusion, its norms and its head too."""
    stir(adapters.modules_of(name).values(), seed, size)
    shared = adapters.shared_of(name)
    if shared is not None:
        stir([shared], seed + 50, size)
    if name in adapters.names:
        stir(adapters.norms_of(name).values(), seed + 100, size)
    stir(adapters.head_of(name).values(), seed + 200, size)


def output(model: Any, inputs: dict[str, Any], **more: Any) -> Tensor:
    with torch.no_grad():
        return main_output(model(**inputs, **more))


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that attaching could leave changed."""
    return {
        "classes": [(name, type(m)) for name, m in model.named_modules()],
        "keys": list(model.state_dict()),
        "values": {k: v.clone() for k, v in model.state_dict().items()},
        "identity": [id(p) for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
        "hooks": {name: _hooks(m) for name, m in model.named_modules()},
        "functions": [
            (name, id(function))
            for name, m in model.named_modules()
            for key, function in vars(m).items()
            if key == "_gradient_checkpointing_func"
        ],
    }


def _hooks(module: nn.Module) -> list[Any]:
    return [
        (kind, list(value.items()) if hasattr(value, "items") else value)
        for kind, value in sorted(vars(module).items())
        if kind.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    ]


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Two snapshots are equal, tensors bit for bit."""
    for key, value in before.items():
        if key == "values":
            assert list(value) == list(after[key])
            for name, tensor in value.items():
                assert torch.equal(tensor, after[key][name]), name
        else:
            assert value == after[key], key


def grads(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of everything that learns, cleared afterwards."""
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor], **tolerance: float) -> None:
    assert sorted(first) == sorted(second)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance)


def learners(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in model.named_parameters() if p.requires_grad)
