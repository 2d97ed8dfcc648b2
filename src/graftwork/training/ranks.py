"""The processes that `torchrun` or `accelerate launch` has started to train one model together, and how they agree.

Each rank has the whole model and computes a part of each batch. The gradients of the parts, each weighed by what it counts in
the loss, add up to that of the batch. What is written or scored is done by the first rank; the others wait for it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from graftwork.errors import LostRankError, TrainingError

T = TypeVar("T")
PATIENCE = 60.0  # seconds that a rank with an error waits for the others to have one too
_TEXT = 2000  # bytes of an error that others hear
_LONG = datetime.timedelta(days=30)  # the first rank may score, or wait for other workers, for as long as it takes


def ranks_started() -> int:
    """The number of processes that a launcher has started for one training; 1 without one."""
    started = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return int(os.environ["WORLD_SIZE"]) if started else 1


def first_started() -> bool:
    """Whether this process is the first of those that a launcher has started, or the only one."""
    return ranks_started() == 1 or os.environ["RANK"] == "0"


class Ranks:
    """The ranks of a training; without arguments, one process by itself.

    Attributes:
        size: Their number.
        number: The number of this one, from 0.
        lost: Whether another one no longer answers.
    """

    def __init__(self, number: int = 0, size: int = 1, group: Any = None) -> None:
        self.number, self.size, self._group = number, size, group
        self.lost = False

    @classmethod
    def join(cls) -> Ranks:
        """The ranks that a launcher has started; every one of them has to call it."""
        if ranks_started() == 1:
            return cls()
        PartialState(cpu=not torch.cuda.is_available())  # accelerate knows the device and the backend
        # messages have a group of their own, so that they are never taken for gradients
        group = dist.new_group(backend="gloo", timeout=_LONG)
        return cls(dist.get_rank(), dist.get_world_size(), group)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.number == 0

    # -- messages --------------------------------------------------------------------------------------------------

    def tell(self, what: str, value: Any = None) -> None:
        """Send a message to all others; only the first rank may."""
        if self.size > 1:
            dist.broadcast_object_list([(what, value)], 0, self._group)

    def hear(self) -> tuple[str, Any]:
        """The next message of the first rank."""
        found: list[Any] = [None]
        dist.broadcast_object_list(found, 0, self._group)
        return found[0]  # type: ignore[no-any-return]  # as `tell` has sent it

    def same(self, make: Callable[[], T]) -> T:
        """What the first rank makes, on all ranks; the others wait.

        Raises:
            TrainingError: On the others, if it raised an error.
        """
        if self.first:
            try:
                made = make()
            except Exception as error:
                self.tell("error", f"{type(error).__name__}: {error}")
                raise
            self.tell("made", made)
            return made
        what, value = self.hear()
        if what != "made":
            raise TrainingError(f"the first rank has ended: {value}")
        return value  # type: ignore[no-any-return]  # what the first rank made

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all ranks run; an error in one of them is one in all, once each has reached its end.

        Raises:
            TrainingError: If another rank had an error.
            LostRankError: If this one had an error, or lost the connection, and others still wait for it: they cannot be
                reached any more, so that the processes have to end.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as found:
            error = found
        if self.size > 1:
            own = "" if error is None else f"{type(error).__name__}: {error}"
            try:
                said = self._exchange(own, _LONG if error is None else datetime.timedelta(seconds=PATIENCE))
            except RuntimeError as gone:
                self.lost = True
                raise LostRankError(
                    f"rank {self.number} of {self.size}: {own or gone}; the other ranks do not answer, so this run ends: "
                    "start the same command again"
                ) from (error or gone)
            other = next((n for n, text in said.items() if text), None)
            if error is None and other is not None:
                raise TrainingError(f"rank {other} of {self.size}: {said[other]}")
        if error is not None:
            raise error

    def _exchange(self, text: str, patience: datetime.timedelta) -> dict[int, str]:
        """What all other ranks say, by number, once they say it; texts are cut.

        Raises:
            RuntimeError: If one of them has said nothing for so long, or is gone.
        """
        others = [n for n in range(self.size) if n != self.number]
        said = text.encode()[:_TEXT]
        own = torch.tensor([*said, *bytes(_TEXT - len(said))], dtype=torch.uint8)
        heard = {n: torch.empty_like(own) for n in others}
        sent = [dist.isend(own, n, self._group) for n in others]
        waiting = [dist.irecv(heard[n], n, self._group) for n in others]
        for one in (*sent, *waiting):  # a barrier, or a gather of objects, has no limit that a rank chooses for itself
            if one is not None:
                one.wait(patience)
        return {n: bytes(heard[n].tolist()).rstrip(b"\0").decode(errors="replace") for n in others}

    # -- a training ------------------------------------------------------------------------------------------------

    def part(
        self, batch: Mapping[str, Tensor], rows: int, count: Callable[[Tensor], float]
    ) -> tuple[dict[str, Tensor], float]:
        """This rank's rows of a batch, and their share of its loss, which is 0 where there are more ranks than rows.

        Args:
            batch: A batch; each tensor has the rows, or a number of entries for each, in its first dimension.
            rows: The number of its rows.
            count: How many labels of some rows the loss is the mean over.
        """
        if self.size == 1:
            return dict(batch), 1.0
        begin, end = (rows * n // self.size for n in (self.number, self.number + 1))
        kept = slice(begin, end) if end > begin else slice(0, 1)  # a model cannot compute no rows
        own = {}
        for name, tensor in batch.items():
            each = tensor.shape[0] // rows
            own[name] = tensor[kept.start * each : kept.stop * each]
        if end == begin:
            return own, 0.0
        if "labels" not in batch:
            return own, (end - begin) / rows
        whole = count(batch["labels"])
        return own, count(own["labels"]) / whole if whole else (end - begin) / rows

    @contextmanager
    def own_draws(self, seed: int, device: torch.device) -> Iterator[None]:
        """A block whose random numbers (dropout) differ by rank; those of all others, by which rows are drawn, stay the same.

        Args:
            seed: The seed, which is the same on all ranks.
            device: Where the block computes.
        """
        if self.size == 1:
            yield
            return
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed((seed * self.size + self.number) % 2**63)
            yield

    def sum_of(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value
