"""Decoding with a cache: what is made of weights and compositions is made at the first token and kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import graftwork as gw
from benchmarks.counting import operators
from graftwork.attach import planning
from graftwork.compose.bank import Bank
from graftwork.compose.fusion.fuse_forms import Folded
from graftwork.compose.rowbank import RowBank
from graftwork.forward import work
from tests.support.attached import attached, ids, lively
from tests.zoo.models import build

LORA = gw.LoRA(rank=2, targets=["q_proj", "v_proj"])
NAMES = [f"a{n}" for n in range(4)]
COMPOSITIONS: dict[str, tuple[Any, gw.Composition]] = {
    "lora": (LORA, "a0"),
    "pfeiffer": (gw.Pfeiffer(), "a0"),
    "average": (LORA, gw.Average(*NAMES)),
    "average of bottlenecks": (gw.Pfeiffer(), gw.Average(*NAMES)),
    "fuse": (gw.Pfeiffer(), gw.Fuse(*NAMES, name="f")),
    "fuse at projections": (LORA, gw.Fuse(*NAMES, name="f")),
    "rows": (LORA, gw.MixedBatch(NAMES)),
    "rows with one twice": (LORA, gw.MixedBatch(["a0", "a1", "a1", "a2"])),
    "nested": (LORA, gw.Stack("a0", gw.Average("a1", "a2"))),
}


def setup(config: gw.AdapterConfig, composition: gw.Composition) -> tuple[Any, gw.Adapters]:
    zoo = build("llama_causal")
    zoo.model.generation_config.eos_token_id = None
    adapters = attached(zoo)
    for n, name in enumerate(NAMES):
        adapters.add(name, config)
        lively(adapters, name, seed=n)
    if isinstance(composition, gw.Fuse):
        adapters.add_fusion(composition)
    return zoo.model, adapters


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often plans, the work of modules, stacked and folded weights were made."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in (
        (Bank, "_stack"),
        (RowBank, "_stack"),
        (Folded, "_fold"),
        (planning, "make_plan"),
        (work, "_work"),
    ):
        count(owner, name)
    return found


@pytest.mark.parametrize("case", COMPOSITIONS)
def test_later_tokens_make_nothing_anew(case: str, made: Counter[str]) -> None:
    config, composition = COMPOSITIONS[case]
    model, adapters = setup(config, composition)
    adapters.active = composition
    rows = ids(4, 5)

    def generate(tokens: int) -> torch.Tensor:
        options = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens, "pad_token_id": 1}
        return model.generate(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=True, **options)  # type: ignore[no-any-return]

    assert made["make_plan"]
    first = generate(1)
    made.clear()
    later = generate(8)
    assert torch.equal(later[:, : first.shape[1]], first)
    assert not made


def test_a_changed_weight_is_seen_by_the_next_token(made: Counter[str]) -> None:
    model, adapters = setup(*COMPOSITIONS["average"])
    adapters.active = COMPOSITIONS["average"][1]
    before = model(input_ids=ids(1, 5)).logits
    made.clear()
    lively(adapters, "a3", seed=9)
    changed = model(input_ids=ids(1, 5)).logits
    assert not torch.allclose(before, changed)
    assert made["_stack"] == len(adapters.modules_of("a3"))


@pytest.mark.parametrize(
    "block", [gw.Average, lambda *names: gw.MixedBatch([*names] * (4 // len(names)))], ids=["average", "rows"]
)
@pytest.mark.parametrize("config", [LORA, gw.Pfeiffer()], ids=["lora", "pfeiffer"])
def test_more_adapters_run_no_more_operators(block: Any, config: gw.AdapterConfig) -> None:
    model, adapters = setup(config, None)
    found = []
    for count in (2, 4):
        adapters.active = block(*NAMES[:count])
        found.append(operators(lambda: model(input_ids=ids(4, 5), use_cache=False)))
    assert found[1] <= found[0]


def test_modules_without_work_get_no_hooks() -> None:
    model, adapters = setup(LORA, None)

    def hooked() -> set[str]:
        return {path for path, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks} - {"", "model"}

    assert not hooked()
    adapters.active = "a0"
    assert hooked() == {adapters.sites.prefix + key for key in adapters.modules_of("a0")}
    adapters.add("p", gw.Pfeiffer())
    with adapters.using("p"):
        inside = hooked()
    assert {"model.layers.0.mlp", "model.layers.1.mlp"} <= inside
    adapters.detach()
    assert not {path for path, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks}
