"""What the literature says, as data: figures, what they compare, on what base and data, and how they are known here.

A reason has no figure of its own: it points to a fact, and the fact is what is printed. ``found`` was read in the paper, or in a
publication of its figures; ``computed`` is arithmetic over figures that were found; ``recalled`` was not read again: it is printed
with that word, and moves no rank.
"""

from __future__ import annotations

import dataclasses
import string
from typing import Literal

from graftwork.report.recommending.published import LARGER, ROBERTA, SMALL, gain, mean, printed_mean, roberta_gain

Knowledge = Literal["found", "computed", "recalled"]

# The bins of tasks by training rows of arXiv:2005.00247 that its results are read by.
SMALL_TARGET, LARGE_TARGET = 5_000, 40_000
# Training rows of CB, its smallest task: below that there is no figure.
SMALLEST = 250
# Adapters in the fusion that arXiv:2010.11918 timed.
TIMED_POOL = 8


@dataclasses.dataclass(frozen=True)
class Paper:
    """A publication.

    Attributes:
        title: Short, as people say it.
        arxiv: Its number.
    """

    title: str
    arxiv: str

    def __str__(self) -> str:
        return f"{self.title}, arXiv:{self.arxiv}"


@dataclasses.dataclass(frozen=True)
class Fact:
    """A figure of the literature, or a finding without one.

    Attributes:
        says: The sentence, its figures left open as ``{}``; none is written into it.
        values: The figures, in order.
        paper: Where it stands.
        on: Base, data and metric.
        knowledge: How it is known here.
    """

    says: str
    values: tuple[float | int, ...]
    paper: Paper
    on: str
    knowledge: Knowledge

    def __post_init__(self) -> None:
        fields = [name for _, name, _, _ in string.Formatter().parse(self.says) if name is not None]
        if len(fields) != len(self.values):
            raise ValueError(f"{self.says!r} has {len(fields)} places for {len(self.values)} figures")

    @property
    def text(self) -> str:
        """The sentence."""
        return self.says.format(*self.values)

    @property
    def source(self) -> str:
        """Where it is from, and how it is known."""
        how = {"found": "", "computed": "; computed from its figures", "recalled": "; recalled, not re-read"}
        return f"{self.paper}; {self.on}{how[self.knowledge]}"


FUSION = Paper("AdapterFusion", "2005.00247")
DROP = Paper("AdapterDrop", "2010.11918")
SCALEARN = Paper("ScaLearn", "2310.01217")
HOULSBY = Paper("Parameter-efficient transfer learning", "1902.00751")
COMPACTER = Paper("Compacter", "2106.04647")
HYPERFORMER = Paper("Hyperformer", "2106.04489")
PALS = Paper("BERT and PALs", "1902.02671")
UNIFIED = Paper("Towards a unified view", "2110.04366")
LORA = Paper("LoRA", "2106.09685")
STILTS = Paper("STILTs", "1811.01088")
MERA = Paper("MerA", "2308.15982")

_BERT = "BERT-base, dev accuracy in percent"
_GLUE = "RoBERTa-base, GLUE dev, mean score"

FACTS: dict[str, Fact] = {
    # --- arXiv:2005.00247, by the size of the target
    "fusion on small tasks": Fact(
        "a fusion is {:+.1f} points above the single adapter on the mean of the {} tasks with fewest rows (RTE {:+.2f})",
        (gain("fusion", "single", SMALL), len(SMALL), gain("fusion", "single", ["RTE"])),
        FUSION,
        _BERT,
        "computed",
    ),
    "fusion on small tasks, RoBERTa": Fact(
        "on RoBERTa it is smaller: CB {:+.2f}, RTE {:+.2f}, MRPC {:+.2f}, and {:+.1f} on the mean of all tasks",
        (*(roberta_gain([task]) for task in ("CB", "RTE", "MRPC")), roberta_gain(ROBERTA)),
        FUSION,
        "RoBERTa-base, dev accuracy in percent",
        "computed",
    ),
    "fusion on larger tasks": Fact(
        "a fusion is {:+.1f} points above the single adapter on the mean of the {} larger tasks",
        (gain("fusion", "single", LARGER), len(LARGER)),
        FUSION,
        _BERT,
        "computed",
    ),
    "houlsby against pfeiffer": Fact(
        "mean of all tasks: Houlsby's placement {:.2f}, Pfeiffer's {:.2f}",
        (printed_mean("houlsby"), printed_mean("single")),
        FUSION,
        _BERT,
        "found",
    ),
    "together on small tasks": Fact(
        "adapters trained on all tasks together reach {:.1f}, single ones {:.1f}, on the {} tasks with fewest rows",
        (mean("multi", SMALL), mean("single", SMALL), len(SMALL)),
        FUSION,
        _BERT,
        "computed",
    ),
    "together on larger tasks": Fact(
        "adapters trained on all tasks together reach {:.1f}, single ones {:.1f}, on the {} larger tasks",
        (mean("multi", LARGER), mean("single", LARGER), len(LARGER)),
        FUSION,
        _BERT,
        "computed",
    ),
    "full on small tasks": Fact(
        "full fine-tuning reaches {:.1f}, the single adapter {:.1f}, on the {} tasks with fewest rows",
        (mean("full", SMALL), mean("single", SMALL), len(SMALL)),
        FUSION,
        _BERT,
        "computed",
    ),
    "full on larger tasks": Fact(
        "full fine-tuning reaches {:.1f}, the single adapter {:.1f}, on the {} larger tasks",
        (mean("full", LARGER), mean("single", LARGER), len(LARGER)),
        FUSION,
        _BERT,
        "computed",
    ),
    "head alone": Fact(
        "mean of all tasks: the head alone {:.2f}, the single adapter {:.2f}",
        (printed_mean("head"), printed_mean("single")),
        FUSION,
        _BERT,
        "found",
    ),
    "few rows": Fact(
        "with few shots a single adapter can be above a fusion", (), MERA, "its abstract, no figure", "found"
    ),
    # --- the same eight tasks, several methods
    "scalearn and fusion": Fact(
        "ScaLearn {:.2f}, a fusion {:.2f}, the single adapter {:.2f}",
        (85.36, 85.01, 83.83),
        SCALEARN,
        _GLUE,
        "found",
    ),
    "scalearn on RTE": Fact(
        "on RTE: ScaLearn {:.2f}, a fusion {:.2f}, the single adapter {:.2f}",
        (82.06, 79.49, 72.89),
        SCALEARN,
        "RoBERTa-base, dev",
        "found",
    ),
    "scalearn on large tasks": Fact(
        "on MNLI and QQP: ScaLearn {:.2f} and {:.2f}, the single adapter {:.2f} and {:.2f}",
        (86.97, 90.32, 86.50, 90.18),
        SCALEARN,
        "RoBERTa-base, dev",
        "found",
    ),
    "hyperformer on RTE": Fact(
        "on RTE: Hyperformer++ {:.2f}, the single adapter {:.2f}",
        (83.75, 72.89),
        SCALEARN,
        "RoBERTa-base, dev",
        "found",
    ),
    "hyperformer wavers": Fact(
        "trained again on SuperGLUE, Hyperformer++ came out between {:.2f} and {:.2f}; the single adapter at {:.2f}",
        (46.55, 58.81, 73.19),
        SCALEARN,
        "RoBERTa-base, SuperGLUE dev, mean score",
        "found",
    ),
    "compacter++ on GLUE": Fact(
        "Compacter++ {:.2f}, the single adapter {:.2f}", (83.40, 83.83), SCALEARN, _GLUE, "found"
    ),
    # --- others
    "hyperformer a task": Fact("{:.2f} % of the base's weights a task", (0.29,), HYPERFORMER, "T5-base, GLUE", "found"),
    "compacter a task": Fact(
        "{:.3f} % of the base's weights trained, on par with full fine-tuning", (0.047,), COMPACTER, "T5-base", "found"
    ),
    "compacter on GLUE": Fact(
        "Compacter {:.2f}, full fine-tuning {:.2f}", (86.62, 86.50), COMPACTER, "T5-base, GLUE, mean score", "recalled"
    ),
    "adapters and full": Fact(
        "adapters {:.1f} with {:.1f} % of the weights a task, full fine-tuning {:.1f}",
        (80.0, 3.6, 80.4),
        HOULSBY,
        "BERT-large, GLUE test",
        "found",
    ),
    "pals": Fact(
        "PALs {:.1f}, a base of each task's own {:.1f}", (80.4, 79.6), PALS, "BERT-base, GLUE test", "recalled"
    ),
    "parallel": Fact(
        "a scaled parallel adapter is {:+.2f} above a plain parallel one, and parallel is above sequential in all cases",
        (0.56,),
        UNIFIED,
        "XSum, ROUGE-2",
        "found",
    ),
    "intermediate": Fact(
        "a task in between brings {:+.1f}, most on small data", (1.4,), STILTS, "BERT-large, GLUE", "found"
    ),
    # --- time
    "adapter is slower": Fact(
        "inference with an adapter is {} to {} % slower than without", (4, 6), DROP, "its own timings", "found"
    ),
    "fusion is slower": Fact(
        "inference with a fusion of {} adapters is {} % slower than without, not folded",
        (TIMED_POOL, 62),
        DROP,
        "its own timings",
        "found",
    ),
    "fusion pruned": Fact(
        "pruned from {} adapters to {} a layer, a fusion is {} % faster at comparable scores",
        (TIMED_POOL, 2, 68),
        DROP,
        "its own timings",
        "found",
    ),
    "lora merged": Fact(
        "merged into the base, LoRA takes what the base takes, {:.1f} ms; with adapters it is {:.1f} to {:.1f} ms "
        "(at {} rows a batch {} to {} % more)",
        (19.8, 23.9, 25.8, 32, 2.2, 3.0),
        LORA,
        "GPT-2 medium, the times at one row a batch",
        "found",
    ),
}


def ratio_of(percent: float) -> float:
    """How many times as long it takes what is so many percent slower."""
    return 1 / (1 - percent / 100)


# What those of time say, as the ratio to the bare model that a limit is compared with.
ADAPTER_RATIOS = tuple(ratio_of(percent) for percent in FACTS["adapter is slower"].values)
FUSION_RATIO = ratio_of(FACTS["fusion is slower"].values[1])
