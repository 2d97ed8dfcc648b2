"""Rows with the same inputs run once through the blocks below the first adapter, and every output is what it was."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import attached, ids, lively, made
from tests.zoo.models import build_or_skip, main_output, names
from tests.zoo.registry import VOCAB


@dataclasses.dataclass
class Upper:
    """A model in float64 with the adapters a and b in its last block alone."""

    model: Any
    adapters: gw.Adapters
    inputs: dict[str, Any]

    @classmethod
    def of(cls, model: Any, adapters: gw.Adapters, inputs: dict[str, Any]) -> Upper:
        last = adapters.sites.blocks[-1]
        kinds = [site.kind for site in adapters.sites if site.block == last]
        kind = "feed_forward" if "feed_forward" in kinds else kinds[0]
        below = {
            f"{site.stack.removeprefix(adapters.sites.prefix)}.{site.layer}"
            for site in adapters.sites
            if site.block != last and site.block in adapters.sites.blocks
        }
        config = gw.Bottleneck(bottleneck_size=3, sites=(kind,), leave_out=tuple(sorted(b for b in below if "." in b)))
        for n, name in enumerate("ab"):
            adapters.add(name, config)
            lively(adapters, name, seed=n + 1)
        return cls(model, adapters, inputs)

    def run(self, composition: gw.Composition, **changed: Any) -> Any:
        with torch.no_grad(), self.adapters.using(composition):
            return self.model(**{**self.inputs, **changed})

    @contextmanager
    def rows_seen(self) -> Iterator[list[list[int]]]:
        """The rows with which each block ran; the first module inside is looked at, since hooks on the block see all rows."""
        seen: list[list[int]] = [[] for _ in self.adapters.sites.blocks]
        hooks = []
        for n, path in enumerate(self.adapters.sites.blocks):
            linear = next(m for m in self.model.get_submodule(path).modules() if isinstance(m, nn.Linear))
            hooks.append(linear.register_forward_hook(lambda m, a, o, n=n: seen[n].append(o.shape[0])))
        try:
            yield seen
        finally:
            for one in hooks:
                one.remove()


def _zoo(name: str) -> Upper:
    zoo = build_or_skip(name, torch.float64)
    return Upper.of(zoo.model, attached(zoo), zoo.inputs)


def _bert(**config: Any) -> Upper:
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32, **config}
    model = made(hf.BertModel, hf.BertConfig(vocab_size=VOCAB, max_position_embeddings=32, **sizes)).double()
    return Upper.of(model, gw.attach(model), {"input_ids": ids(2, 6)})


def _last(output: Any) -> Tensor:
    return output.last_hidden_state


@pytest.mark.parametrize("name", names())
def test_copies_are_what_each_alone_is(name: str) -> None:
    here = _zoo(name)
    if name == "clip" or any(site.rows is None or site.rows for site in here.adapters.sites):
        pytest.skip("what this model returns is not by rows")
    found = main_output(here.run(gw.Replicate("a", "b", None)))
    alone = torch.cat([main_output(here.run(one)) for one in ("a", "b", None)])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["bert", "vit", "t5", "roberta"])
def test_the_blocks_below_see_each_text_once(name: str) -> None:
    here = _zoo(name)
    cache: Any = {"use_cache": False} if name == "t5" else {}
    with here.rows_seen() as once:
        here.run("a", **cache)
    with here.rows_seen() as seen:
        here.run(gw.Replicate("a", "b", None), **cache)
    assert seen[:-1] == once[:-1]
    assert seen[-1] == [3 * rows for rows in once[-1]]


@pytest.mark.parametrize("block", [gw.MixedBatch, lambda rows: gw.BatchSplit(*rows, batch_sizes=[1] * len(rows))])
def test_a_batch_by_rows_computes_equal_texts_once(block: Any) -> None:
    here, tokens = _bert(), ids(2, 6)[torch.tensor([0, 1, 0, 0])]
    children = ["a", "b", None, "b"]
    with here.rows_seen() as seen:
        found = _last(here.run(block(children), input_ids=tokens))
    assert seen == [[2], [2], [4]]
    for row, child in enumerate(children):
        alone = _last(here.run(child, input_ids=tokens[row : row + 1]))
        torch.testing.assert_close(found[row : row + 1], alone, rtol=0, atol=1e-12)


def test_texts_that_differ_in_their_padding_alone_are_different_texts() -> None:
    here, tokens = _bert(), ids(1, 6).repeat(2, 1)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    found = _last(here.run(gw.MixedBatch(["a", "a"]), input_ids=tokens, attention_mask=mask))
    for row in range(2):
        alone = _last(here.run("a", input_ids=tokens[:1], attention_mask=mask[row : row + 1]))
        torch.testing.assert_close(found[row : row + 1], alone, rtol=0, atol=1e-12)


def test_different_texts_run_as_ever() -> None:
    here = _bert()
    with here.rows_seen() as seen:
        here.run(gw.MixedBatch(["a", "b"]))
    assert seen == [[2], [2], [2]]


@pytest.mark.parametrize("rows", [1, 2])
def test_as_many_rows_as_heads_or_positions(rows: int) -> None:
    """The bias of BLOOM's attention is by rows and heads, MPT's by heads alone, and some rotations by positions alone."""
    for kind, config in (
        (hf.MptModel, hf.MptConfig(vocab_size=VOCAB, d_model=16, n_heads=4, n_layers=3, max_seq_len=32)),
        (hf.BloomModel, hf.BloomConfig(vocab_size=VOCAB, hidden_size=16, n_head=4, n_layer=3)),
    ):
        model = made(kind, config).double()
        here = Upper.of(model, gw.attach(model), {"input_ids": ids(rows, 4), "use_cache": False})
        copies = ["a", "b"] * (2 // rows)
        found = _last(here.run(gw.Replicate(*copies)))
        torch.testing.assert_close(found, torch.cat([_last(here.run(one)) for one in copies]), rtol=0, atol=1e-10)


def test_a_cache_keeps_all_rows() -> None:
    model = made(
        hf.LlamaModel,
        hf.LlamaConfig(
            vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4
        ),
    ).double()
    here = Upper.of(model, gw.attach(model), {"input_ids": ids(2, 6)})
    output = here.run(gw.Replicate("a", "b"), use_cache=True)
    assert {layer.keys.shape[0] for layer in output.past_key_values.layers} == {4}
    with here.rows_seen() as seen:
        without = here.run(gw.Replicate("a", "b"), use_cache=False)
    assert seen == [[2], [2], [4]]
    torch.testing.assert_close(_last(without), _last(output), rtol=0, atol=1e-12)


def test_hidden_states_and_attentions_have_all_rows() -> None:
    here = _bert(attn_implementation="eager")
    output = here.run(gw.Replicate("a", "b"), output_hidden_states=True, output_attentions=True)
    assert {h.shape[0] for h in (*output.hidden_states, *output.attentions)} == {4}


def test_rows_that_are_trained_have_their_own_dropout() -> None:
    here = _bert()
    here.model.train()
    with here.rows_seen() as seen:
        here.run(gw.Replicate("a", "b"))
    assert seen == [[4], [4], [4]]


def test_adapters_in_every_layer_share_nothing() -> None:
    here = _bert()
    here.adapters.add("low", gw.Pfeiffer(bottleneck_size=3))
    lively(here.adapters, "low")
    with here.rows_seen() as seen:
        here.run(gw.Replicate("a", "low"))
    assert seen == [[4], [4], [4]]
    with here.rows_seen() as seen:
        here.run(gw.Replicate("a", gw.Drop("low", layers=1)))
    assert seen == [[2], [4], [4]]


def test_an_adapter_at_the_embeddings_shares_nothing() -> None:
    here = _bert()
    here.adapters.add("inv", gw.InvertiblePfeiffer(bottleneck_size=3, leave_out=(0, 1)))
    lively(here.adapters, "inv")
    found = _last(here.run(gw.Replicate("a", "inv")))
    torch.testing.assert_close(found, torch.cat([_last(here.run(one)) for one in ("a", "inv")]), rtol=0, atol=1e-12)


def test_a_user_s_hook_on_a_block_sees_all_rows() -> None:
    here, seen = _bert(), []
    here.model.encoder.layer[0].register_forward_pre_hook(lambda m, a, k: seen.append(a[0].shape[0]), with_kwargs=True)
    here.model.encoder.layer[0].register_forward_hook(
        lambda m, a, o: seen.append((o[0] if isinstance(o, tuple) else o).shape[0])
    )
    here.run(gw.Replicate("a", "b"))
    assert seen == [4, 4]


def test_a_copied_model_shares_by_itself_and_detach_leaves_nothing() -> None:
    here = _bert()
    here.adapters.active = gw.Replicate("a", "b")
    twin = copy.deepcopy(here.model)
    with torch.no_grad():
        want, found = _last(here.model(**here.inputs)), _last(twin(**here.inputs))
    assert torch.equal(want, found)
    here.adapters.detach()
    for module in here.model.modules():
        assert not module._forward_pre_hooks and not module._forward_hooks
        assert not [name for name in module.__dict__ if name.startswith("_graftwork")]


class _Router(nn.Module):
    """A block that also returns something that has no entry a row."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.down(torch.relu(self.up(x)))
        return x + y, y.flatten(0, 1).sum(-1)


class _Routed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Router() for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        every = []
        for layer in self.layers:
            x, routed = layer(x)
            every.append(routed)
        return x, torch.stack(every)


def test_a_block_that_returns_more_than_rows_runs_with_all() -> None:
    torch.manual_seed(0)
    model = _Routed().double().eval()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    here = Upper.of(model, gw.attach(model, example_inputs={"x": x}), {"x": x})
    for _ in range(2):
        stream, routed = here.run(gw.Replicate("a", "b"))
        for n, name in enumerate("ab"):
            alone, alone_routed = here.run(name)
            torch.testing.assert_close(stream[2 * n : 2 * n + 2], alone, rtol=0, atol=1e-12)
            torch.testing.assert_close(routed[:, 10 * n : 10 * n + 10], alone_routed, rtol=0, atol=1e-12)
