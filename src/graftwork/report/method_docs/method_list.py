"""What `graftwork methods` prints: every method on one model, and every block."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from graftwork.report.method_docs.block_facts import POOL, BlockFacts
from graftwork.report.method_docs.method_facts import MethodFacts
from graftwork.report.table import print_text


def print_methods(
    every: Sequence[MethodFacts], model: str, console: Console, blocks: Sequence[BlockFacts] = ()
) -> None:
    """Print the list.

    Args:
        every: The facts of each method.
        model: What the model is called.
        console: Where.
        blocks: The facts of each block, which are listed behind the methods.
    """
    for facts in every:
        first = Text.assemble((facts.name, "bold"), f" (graftwork.{facts.config.__name__}): {facts.summary}")
        console.print(first, soft_wrap=True)
        for line in _lines(facts):
            print_text(f"    {line}", console)
    for block in blocks:
        first = Text.assemble((block.name, "bold"), f" (graftwork.{block.block.__name__}): {block.summary}")
        console.print(first, soft_wrap=True)
        for line in _block_lines(block):
            print_text(f"    {line}", console)
    print_text("any configuration of peft is a method too (graftwork.Peft): LoRA, DoRA, (IA)³, ...", console)
    print_text(f"\nweights: with default options on {model}", console)


def methods_as_json(every: Sequence[MethodFacts], blocks: Sequence[BlockFacts] = ()) -> str:
    """The list as JSON: ``methods`` and ``blocks``."""
    plain = [{**dataclasses.asdict(facts), "config": facts.config.__name__} for facts in every]
    for facts in plain:
        facts["blocks"] = dict(facts["blocks"])
    made = [
        {
            **dataclasses.asdict(facts),
            "block": facts.block.__name__,
            "config": None if facts.config is None else facts.config.__name__,
        }
        for facts in blocks
    ]
    return json.dumps({"methods": plain, "blocks": made}, indent=1, ensure_ascii=False)


def _lines(facts: MethodFacts) -> list[str]:
    papers = ", ".join(f"arXiv:{number}" for number in facts.papers)
    if facts.refused is not None:
        return [line for line in (papers, f"stands nowhere in this model: {facts.refused}") if line]
    norms = f" ({facts.in_norms:,d} in norms)" if facts.in_norms else ""
    where = f"at {facts.where}: {', '.join((*facts.kinds, *facts.by_peft))}"
    flow = f"reads {', '.join(facts.reads)}, writes {', '.join(facts.writes)}"
    lines = [papers, f"{facts.weights:,d} weights, {facts.share:.3%} of the base{norms}, {where}; {flow}"]
    refused = [f"{block} {verdict.replace('`', '')}" for block, verdict in facts.blocks if verdict]
    freely = [block for block, verdict in facts.blocks if not verdict]
    lines.append(f"composes {facts.form}, in {', '.join(freely)}" + "".join(f"; {said}" for said in refused))
    return [line for line in lines if line]


def _block_lines(facts: BlockFacts) -> list[str]:
    lines = [", ".join(f"arXiv:{number}" for number in facts.papers)]
    if facts.weights:
        lines.append(f"{facts.weights:,d} weights over {len(POOL)} Pfeiffer adapters, {facts.share:.3%} of the base")
    return [line for line in lines if line]
