"""What is listed of the methods: counts, papers, verdicts of the blocks, pages."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from typing import Any

import pytest
import torch
import transformers as hf
from rich.console import Console
from typer.testing import CliRunner

import graftwork as gw
from graftwork.cli import app
from graftwork.report import (
    BlockFacts,
    MethodFacts,
    all_blocks,
    all_facts,
    block_pages,
    method_pages,
    methods_as_json,
    print_methods,
)


@functools.lru_cache
def bert_base() -> dict[str, MethodFacts]:
    with torch.device("meta"):
        adapters = gw.attach(hf.BertModel(hf.BertConfig()))
    found = all_facts(adapters)
    assert adapters.names == ()
    assert not adapters.fusions
    return {facts.name: facts for facts in found}


@functools.lru_cache
def blocks_of_bert_base() -> tuple[BlockFacts, ...]:
    with torch.device("meta"):
        adapters = gw.attach(hf.BertModel(hf.BertConfig()))
    found = tuple(all_blocks(adapters))
    assert adapters.names == ()
    assert not adapters.fusions
    return found


def test_every_registered_method_is_there_with_its_paper() -> None:
    found = bert_base()
    assert list(found) == sorted(gw.methods())
    for name, facts in found.items():
        assert facts.papers, f"{name}: the head of its file names no arXiv number"
        assert facts.summary
        assert facts.refused or facts.weights


def test_pfeiffer_and_houlsby_are_as_published() -> None:
    pfeiffer, houlsby = bert_base()["pfeiffer"], bert_base()["houlsby"]
    assert (pfeiffer.weights, pfeiffer.places, pfeiffer.in_norms) == (894_528, 12, 0)
    assert (pfeiffer.kinds, pfeiffer.reads, pfeiffer.writes) == (("feed_forward",), ("normed",), ("branch",))
    assert pfeiffer.papers == ("2005.00247", "2005.00052")
    assert pfeiffer.bank
    assert pfeiffer.folds
    assert set(dict(pfeiffer.blocks).values()) == {""}
    assert (houlsby.weights, houlsby.in_norms) == (2_417_664, 38_400)
    verdicts = dict(houlsby.blocks)
    assert verdicts["Average"] == verdicts["Fuse"] == 'with `norms="base"`'
    assert verdicts["Stack"] == verdicts["MixedBatch"] == ""


def test_a_method_that_stands_nowhere_says_why() -> None:
    with torch.device("meta"):
        adapters = gw.attach(hf.ResNetModel(hf.ResNetConfig(depths=[1, 1, 1, 1])))
    found = {facts.name: facts for facts in all_facts(adapters)}
    assert found["pfeiffer"].refused is not None
    page = method_pages({"ResNet": [found["pfeiffer"]]})["pfeiffer.md"]
    assert "| on ResNet | Pfeiffer" in page


def test_a_page_says_what_each_option_is() -> None:
    facts = bert_base()["pfeiffer"]
    table, page = (method_pages({"BERT-base": [facts]})[name] for name in ("README.md", "pfeiffer.md"))
    assert page.startswith("# `Pfeiffer`\n\nOne adapter a layer")
    assert "    post-norm:  norm(s + y + A(norm(s + y)))" in page
    assert "894,528 (0.817%) at 12 sites" in page
    assert "[arXiv:2005.00247](https://arxiv.org/abs/2005.00247)" in page
    for field in dataclasses.fields(gw.Pfeiffer):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{field.name}` "))
        assert row.count("|") - row.count(r"\|") == 4
        assert row.rstrip(" |").rpartition("|")[2].strip(), f"{field.name} has no description"
    assert "| `reduction_factor` | `16` | Width of the model over" in page
    assert "[`Pfeiffer`](pfeiffer.md)" in table


def test_the_first_model_that_a_method_stands_in_is_shown() -> None:
    facts = bert_base()["pfeiffer"]
    nowhere = dataclasses.replace(facts, refused="no site")
    assert "weights on B " in method_pages({"A": [nowhere], "B": [facts]})["pfeiffer.md"]
    assert "weights on A " in method_pages({"A": [facts], "B": [facts]})["pfeiffer.md"]
    assert "| on A | no site |" in method_pages({"A": [nowhere], "B": [nowhere]})["pfeiffer.md"]


def test_blocks_are_counted_over_four_adapters_and_leave_nothing() -> None:
    found = {facts.name: facts for facts in blocks_of_bert_base()}
    assert found["fuse"].weights == 21_252_096  # whatever the pool's size
    assert found["scalearn"].weights == 4 * 768 * 12
    assert found["route"].weights == 2 * 4 * 768 * 12
    assert found["concat"].weights == 12 * (4 * 768**2 + 768)
    assert (found["drop"].papers, found["drop"].config, found["drop"].weights) == (("2010.11918",), None, 0)
    assert found["scalearn"].papers == ("2310.01217",) and found["scalearn"].config is gw.ScaLearnConfig
    pages = block_pages("BERT-base", [*found.values()])
    assert "36,864" in pages["scalearn.md"] and "| `uniform` | `False` | One number a child" in pages["scalearn.md"]
    assert "| `layers` | The number of layers that are left out" in pages["drop.md"]
    assert '>>> adapters.active = gw.Drop("a", layers=1)' in pages["drop.md"] and "## Options" not in pages["drop.md"]
    assert pages["README.md"].count("\n| [`") == len(found) == len(pages) - 1


def test_blocks_of_a_model_in_which_no_adapter_of_the_pool_stands() -> None:
    with torch.device("meta"):
        adapters = gw.attach(hf.ResNetModel(hf.ResNetConfig(depths=[1, 1, 1, 1])))
    found = {facts.name: facts for facts in all_blocks(adapters)}
    assert found["fuse"].weights == 0 and found["fuse"].config is gw.FusionConfig
    assert adapters.names == ()


def test_the_command_prints_a_list_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    print_methods([*bert_base().values()], "bert (BertModel)", Console(file=out, width=400))
    text = out.getvalue()
    assert "894,528 weights, 0.817% of the base, at 12 sites: feed_forward; reads normed, writes branch" in text
    assert 'Average with norms="base"' in text
    plain: dict[str, list[dict[str, Any]]] = json.loads(methods_as_json([*bert_base().values()], blocks_of_bert_base()))
    assert {facts["name"] for facts in plain["methods"]} == set(gw.methods())
    assert {facts["name"]: facts["config"] for facts in plain["blocks"]}["scalearn"] == "ScaLearnConfig"
    monkeypatch.setattr("graftwork.report.all_facts", lambda adapters: [bert_base()["houlsby"]])
    ran = CliRunner().invoke(app, ["methods", "--model", "bert"])
    assert ran.exit_code == 0, ran.output
    assert "houlsby (graftwork.Houlsby)" in ran.output
    assert "route (graftwork.Route)" in ran.output and "peft" in ran.output
    ran = CliRunner().invoke(app, ["methods", "--auto", "AutoNothing"])
    assert ran.exit_code == 1
