"""LoReFT: its formula, the positions that it edits, rows that stay orthonormal, decoders, refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.loreft import LoReFTModule, orthonormal
from tests.methods.test_bottleneck import place
from tests.methods.test_moe import Around
from tests.support.interpreter import Lab, close, unsettle
from tests.zoo.models import build

WIDTH = 8


def module_of(**options: Any) -> LoReFTModule:
    config = gw.LoReFT(**{"rank": 3, "first": 2, "dtype": "float64", **options})
    module = config.build(place(kind="layer", width=WIDTH))
    assert isinstance(module, LoReFTModule)
    unsettle([module], 1)
    return module


def read(rows: int = 1, positions: int = 6) -> Tensor:
    return torch.randn(rows, positions, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# -- the formula -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(
    "options",
    [
        {"first": 1},
        {"first": 2, "leave_out": (0,)},
        {"first": 100},
        {"last": 2},
        {"last": 2, "tied": False},
        {"first": 0, "last": 1},
    ],
    ids=str,
)
def test_equals_its_formula(model: str, options: dict[str, Any]) -> None:
    """In a padded batch, and in one without a mask."""
    if model != "bert" and options.get("last"):
        pytest.skip("a decoder")
    lab = Lab(model)
    lab.add("a", gw.LoReFT(rank=4, **options))
    for inputs in (lab.inputs, {"input_ids": lab.inputs["input_ids"]}):
        with torch.no_grad():
            plain, actual, expected = lab.run(None, **inputs), lab.run("a", **inputs), lab.expect("a", **inputs)
        close(actual, expected)
        assert float((actual - plain).abs().max()) > 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_equal_those_of_the_formula(tied: bool) -> None:
    lab = Lab("bert")
    lab.add("a", gw.LoReFT(rank=4, first=2, last=1, tied=tied))
    lab.adapters.train_only("a")
    weights = [p for p in lab.model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(lab.expect("a").square().mean(), weights)
    for actual, wanted in zip(torch.autograd.grad(lab.run("a").square().mean(), weights), expected, strict=True):
        close(actual, wanted, 1e-9)


def test_it_replaces_what_is_in_the_span_of_r_and_nothing_else() -> None:
    module, h = module_of(first=1, last=0), read()
    edited, r = h + module(h, Around()), module.rotation()[0]
    close(edited[:, 0] @ r.T, h[:, 0] @ module.source[0].T + module.bias[0], 1e-12)
    rest = torch.eye(WIDTH, dtype=h.dtype) - r.T @ r
    close(edited[:, 0] @ rest, h[:, 0] @ rest, 1e-12)


def test_weighed_it_runs_in_the_bank() -> None:
    lab = Lab("bert")
    for name, first in (("a", 1), ("b", 3)):
        lab.add(name, gw.LoReFT(rank=4, first=first, last=1))
    lab.add("c", gw.BapnaFirat(bottleneck_size=4, norm_before=False))
    for block in (gw.Average("a", "b", weights=[0.3, 0.7]), gw.Average("a", "c")):
        with torch.no_grad():
            close(lab.run(block), lab.expect(block))
    assert all(m.banked for m in lab.adapters.modules_of("a").values())


# -- positions ---------------------------------------------------------------------------------------------------------

MASKS = {
    "right": ([1, 1, 1, 1, 0, 0], [0, 1], [2, 3]),
    "left": ([0, 0, 1, 1, 1, 1], [2, 3], [4, 5]),
    "both sides": ([0, 1, 1, 1, 1, 0], [1, 2], [3, 4]),
    "short": ([0, 1, 1, 1, 0, 0], [1, 2], [3]),
    "shorter": ([1, 0, 0, 0, 0, 0], [0], []),
    "nothing": ([0, 0, 0, 0, 0, 0], [], []),
}


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("tied", [True, False])
def test_padding_does_not_count(padding: str, tied: bool) -> None:
    mask, first, last = MASKS[padding]
    module, h = module_of(last=2, tied=tied), read()
    chosen = module.positions(h, Around(torch.tensor([mask]).bool()))
    both = [[at for at in range(6) if part[at]] for part in chosen[0].T]
    assert both == ([sorted(first + last)] if tied else [first, last])
    delta = module(h, Around(torch.tensor([mask]).bool()))
    assert [at for at in range(6) if delta[0, at].any()] == sorted(first + last)


def test_the_positions_of_an_image_are_counted_row_by_row() -> None:
    module, h = module_of(last=1), read(2, 6)
    image = h.view(2, 2, 3, WIDTH)
    assert torch.equal(module(image, Around()).view_as(h), module(h, Around()))


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_a_padded_row_is_as_it_is_alone(model: str) -> None:
    lab = Lab(model)
    lab.add("a", gw.LoReFT(rank=4, first=2, last=1 if model == "bert" else 0))
    ids = torch.randint(3, 40, (1, 5), generator=torch.Generator().manual_seed(0))
    for side in ((3, 0), (0, 3)):
        padded, mask = nn.functional.pad(ids, side, value=1), nn.functional.pad(torch.ones_like(ids), side)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            alone = lab.run("a", input_ids=ids, attention_mask=torch.ones_like(ids))
            beside = lab.run("a", input_ids=padded, attention_mask=mask, position_ids=places)
        close(beside[mask.bool()], alone[0], 1e-10)


# -- orthonormal rows --------------------------------------------------------------------------------------------------


def is_orthonormal(rows: Tensor, tolerance: float) -> bool:
    return bool(((rows @ rows.mT - torch.eye(rows.shape[-2], dtype=rows.dtype)).abs() < tolerance).all())


def test_rows_stay_orthonormal_while_it_is_trained() -> None:
    module, h = module_of(dtype="float32", last=1, tied=False), read(3).float()
    before = module.rotation().detach()
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(20):
        module(h, Around()).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert is_orthonormal(module.rotation(), 1e-5)
    assert float((module.rotation() - before).detach().abs().max()) > 0.1


def test_the_start_is_orthonormal_and_stays_as_it_is() -> None:
    module = gw.LoReFT(rank=3).build(place(kind="layer", width=WIDTH))
    assert isinstance(module, LoReFTModule)
    assert is_orthonormal(module.free, 1e-6)
    close(orthonormal(module.free), module.free, 1e-6)


def test_merged_its_rows_are_orthonormal() -> None:
    lab = Lab("bert")
    for name in "ab":
        lab.add(name, gw.LoReFT(rank=4))
    lab.adapters.merge("m", ["a", "b"])
    assert all(is_orthonormal(m.rotation(), 1e-10) for m in lab.adapters.modules_of("m").values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weights(dtype: str) -> None:
    module, h = module_of(dtype=dtype), read().float()
    assert module.free.dtype is getattr(torch, dtype)
    assert torch.isfinite(module(h, Around())).all()
    assert is_orthonormal(module.rotation().float(), 0.05)


def test_a_copy_computes_with_its_own_weights() -> None:
    module, h = module_of(), read()
    with torch.no_grad():
        before = module(h, Around())
        other = copy.deepcopy(module)
        other.free.mul_(-1)
        assert torch.equal(module(h, Around()), before)
        assert not torch.equal(other(h, Around()), before)


# -- decoders and refusals ---------------------------------------------------------------------------------------------


def test_a_decoder_generates_without_a_cache_and_each_row_as_alone() -> None:
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=24,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    model = hf.LlamaForCausalLM(config).double().eval()
    adapters = gw.attach(model)
    adapters.add("a", gw.LoReFT(rank=4, first=2, dtype="float64"))
    unsettle(list(adapters.modules_of("a").values()), 3, 1.0)
    adapters.active = "a"
    rows = [torch.tensor([[7, 8, 9, 10, 11]]), torch.tensor([[12, 13, 14]])]
    options = {"max_new_tokens": 4, "do_sample": False, "use_cache": False}
    alone = [model.generate(row, attention_mask=torch.ones_like(row), **options)[0, -4:] for row in rows]
    padded = torch.cat([rows[0], nn.functional.pad(rows[1], (2, 0))])
    mask = (padded != 0).long()
    together = model.generate(padded, attention_mask=mask, **options)[:, -4:]
    assert torch.equal(together, torch.stack(alone))
    with pytest.raises(gw.CompositionError, match=r"'a' mixes positions.*use_cache=False"):
        model.generate(padded, attention_mask=mask, **{**options, "use_cache": True})


@pytest.mark.parametrize("model", ["gpt2", "t5"])
def test_a_decoder_has_no_last_positions(model: str) -> None:
    adapters = gw.attach(build(model).model)
    with pytest.raises(gw.ConfigError, match=r"LoReFT: last is 1, but .* is in a decoder.*last=0"):
        adapters.add("a", gw.LoReFT(last=1))
    assert not adapters.names
    if model == "t5":
        decoder = [f"decoder.block.{n}" for n in range(adapters.sites.stacks["decoder.block"])]
        adapters.add("a", gw.LoReFT(last=1, leave_out=decoder))
        assert {key.partition(".")[0] for key in adapters.modules_of("a")} == {"encoder"}


def test_a_rank_above_the_width() -> None:
    with pytest.raises(gw.ConfigError, match=r"LoReFT: rank is 33, but .* is 32 wide"):
        gw.attach(build("bert").model).add("a", gw.LoReFT(rank=33))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank"),
        ({"first": -1}, "first"),
        ({"last": 1.5}, "last"),
        ({"first": 0}, "first and last are 0"),
        ({"tied": "yes"}, "tied"),
        ({"init": "zeros"}, "init"),
        ({"leave_out": 1}, "leave_out"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"LoReFT: .*{said}|LoReFT: {said}"):
        gw.LoReFT(**options)
