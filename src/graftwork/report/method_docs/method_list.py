"""The list that `graftwork methods` prints: every method on one model, and every block."""

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
    """Print the methods on the model of that name, then the blocks."""
    listed: list[tuple[MethodFacts | BlockFacts, type, list[str]]] = []
    listed += [(facts, facts.config, _lines(facts)) for facts in every]
    listed += [(facts, facts.block, _block_lines(facts)) for facts in blocks]
    for facts, shown, lines in listed:
        first = Text.assemble((facts.name, "bold"), f" (graftwork.{shown.__name__}): {facts.summary}")
        console.print(first, soft_wrap=True)
        for line in filter(None, lines):
            print_text(f"    {line}", console)
    print_text("any configuration of peft is a method too (graftwork.Peft): LoRA, DoRA, (IA)³, ...", console)
    print_text(f"\nweights: with default options on {model}", console)


def methods_as_json(every: Sequence[MethodFacts], blocks: Sequence[BlockFacts] = ()) -> str:
    """The list as JSON: ``methods`` and ``blocks``."""
    plain = [dataclasses.asdict(facts) | {"blocks": dict(facts.blocks)} for facts in every]
    lists = {"methods": plain, "blocks": [dataclasses.asdict(facts) for facts in blocks]}
    return json.dumps(lists, indent=1, ensure_ascii=False, default=lambda shown: shown.__name__)  # classes by name


def _lines(facts: MethodFacts) -> list[str]:
    if facts.refused is not None:
        return [_papers(facts), f"cannot be added to this model: {facts.refused}"]
    norms = f" ({facts.in_norms:,d} in norms)" if facts.in_norms else ""
    where = f"at {facts.where}: {', '.join((*facts.kinds, *facts.by_peft))}"
    flow = f"reads {', '.join(facts.reads)}, writes {', '.join(facts.writes)}"
    lines = [_papers(facts), f"{facts.weights:,d} weights, {facts.share:.3%} of the base{norms}, {where}; {flow}"]
    refused = [f"{block} {verdict.replace('`', '')}" for block, verdict in facts.blocks if verdict]
    freely = [block for block, verdict in facts.blocks if not verdict]
    return [*lines, "; ".join([f"composes {facts.form}, in {', '.join(freely)}", *refused])]


def _block_lines(facts: BlockFacts) -> list[str]:
    weights = f"{facts.weights:,d} weights over {len(POOL)} Pfeiffer adapters, {facts.share:.3%} of the base"
    return [_papers(facts), weights if facts.weights else ""]


def _papers(facts: MethodFacts | BlockFacts) -> str:
    return ", ".join(f"arXiv:{number}" for number in facts.papers)
