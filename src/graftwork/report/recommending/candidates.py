"""What is chosen from, and what of it a rule may ask."""

from __future__ import annotations

import dataclasses
from typing import Literal

# alone: one adapter a task. fuses: over adapters of several tasks. together: weights that several tasks learn at once.
# measured: by the user, and nothing else is known of it.
Shape = Literal["alone", "fuses", "together", "after another", "no adapter", "measured"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way of serving a task.

    Attributes:
        key: Its name, that of the method in files where it is one.
        label: What a reader calls it.
        shape: How it stands to the tasks.
        trains_base: Whether the base's own weights learn.
        in_sequence: Whether, at inference, it adds what an adapter behind a branch adds.
    """

    key: str
    label: str
    shape: Shape
    trains_base: bool = False
    in_sequence: bool = True


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("pfeiffer", "Pfeiffer", "alone"),
    Candidate("houlsby", "Houlsby", "alone"),
    Candidate("bottleneck", "Bottleneck with a skip", "alone"),
    Candidate("parallel", "Parallel", "alone", in_sequence=False),
    Candidate("compacter", "Compacter", "alone"),
    Candidate("compacter_plus_plus", "Compacter++", "alone"),
    Candidate("lora", "LoRA (peft)", "alone", in_sequence=False),
    Candidate("fusion", "AdapterFusion", "fuses", in_sequence=False),
    Candidate("scalearn", "ScaLearn", "fuses", in_sequence=False),
    Candidate("hyperformer_plus_plus", "Hyperformer++", "together"),
    Candidate("together", "one Pfeiffer adapter for all tasks", "together"),
    Candidate("pal", "PALs", "together", trains_base=True, in_sequence=False),
    Candidate("intermediate", "Pfeiffer, learnt on a source first", "after another"),
    Candidate("full", "full fine-tuning", "no adapter", trains_base=True, in_sequence=False),
    Candidate("head", "head only", "no adapter", in_sequence=False),
)
KEYS = tuple(candidate.key for candidate in CANDIDATES)
