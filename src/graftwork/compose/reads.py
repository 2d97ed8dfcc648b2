"""The tensors of one site in one call, as adapters read them.

`BranchReads` stands where a branch's output ``y`` leaves its module, `StreamReads` where the stream itself does (behind
a post-norm, or at a block's output). Both give a new object when something is added (`added`) or only some rows or
positions are in hand (`rows`, `positions`), so that nested blocks need to know of nothing but their reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from graftwork.compose.rows import Rows, take
from graftwork.errors import CompositionError


class NormCall(Protocol):
    """The site's norm as it is now, an adapter's own parameters included."""

    def __call__(self, values: Tensor) -> Tensor:
        """The normed values, same shape."""

    def rows(self, rows: Rows) -> NormCall:
        """The same for some of the rows."""


class SiteContext:
    """What is known of the call beside the site's own tensors.

    Attributes:
        batch_size: Number of rows of the model's batch in hand; ``None`` where it is not known.
        beams: Whether the batch may hold several consecutive rows for each named one.
        mask: The attention mask ``(batch, positions)``, or ``None``.
        record: Where fusions write their weights, or ``None`` when nobody asks.
        losses: What takes the extra losses of this forward pass; ``None`` where there is no forward pass.
        memo: What sites of one forward pass have in common, such as a gate for a whole layer.
        module: The module of the base that is called; see `graftwork.methods.layers.contract.Context`.
    """

    def __init__(
        self,
        batch_size: int | None,
        *,
        beams: bool = False,
        mask: Tensor | None = None,
        record: dict[Any, Any] | None = None,
        losses: Callable[[Tensor], None] | None = None,
        memo: dict[Any, Any] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.beams = beams
        self.mask = mask
        self.record = record
        self.losses = losses
        self.memo = {} if memo is None else memo
        self.module = module

    def add_loss(self, loss: Tensor) -> None:
        """Add a scalar to the loss of this forward pass; see `graftwork.methods.layers.contract.Context`."""
        if self.losses is not None:
            self.losses(loss)

    def padding_mask(self, read: Tensor) -> Tensor | None:
        """The mask of a read's positions, ``None`` where there is none.

        Raises:
            CompositionError: If the mask given is of other positions: the model has padded, shortened or joined them.
        """
        if self.mask is None or read.dim() != 3:
            return None
        if self.mask.shape == read.shape[:2]:
            return self.mask.bool()
        if self.beams:  # a cache keeps the earlier positions back: what is in hand is no padding
            return None
        raise CompositionError(
            f"the attention mask is {tuple(self.mask.shape)} and the model works on {tuple(read.shape[:2])} here: it pads, "
            "shortens or joins its positions inside, so that an adapter that looks at other positions, or averages them, cannot "
            "know which are padding; use a method that works position by position (Pfeiffer, Houlsby, Parallel, LoRA), or give "
            "rows of one length and no attention_mask"
        )

    def rows(self, rows: Rows) -> SiteContext:
        """The same for some of the rows. Weights are not recorded inside: they would not cover the batch."""
        assert self.batch_size is not None
        mask = None if self.mask is None else take(self.mask, rows, self.batch_size)
        return SiteContext(len(rows), beams=self.beams, mask=mask, losses=self.losses, module=self.module)

    def positions(self, start: int, stop: int) -> SiteContext:
        """The same for some of the positions."""
        mask = None if self.mask is None else self.mask[:, start:stop]
        return SiteContext(self.batch_size, beams=self.beams, mask=mask, losses=self.losses, module=self.module)


class Reads:
    """Base: named tensors ``(batch, positions, width)`` and what is around them."""

    def __init__(self, value: Tensor, taps: Mapping[str, Tensor], around: SiteContext) -> None:
        self.value = value
        self.taps = taps
        self.around = around

    def get(self, role: str) -> Tensor:
        """One read by its name, see `graftwork.methods.layers.contract.READS`."""
        raise NotImplementedError

    def added(self, delta: Tensor) -> Reads:
        """The site after an addition."""
        return self._like(self.value + delta.to(self.value.dtype), self.taps, self.around)

    def rows(self, rows: Rows) -> Reads:
        """The site with some of the rows."""
        batch_size = self.require_rows()
        taps = {role: take(t, rows, batch_size) for role, t in self.taps.items()}
        return self._like(take(self.value, rows, batch_size), taps, self.around.rows(rows), rows)

    def positions(self, start: int, stop: int) -> Reads:
        """The site with some of the positions."""
        taps = {role: t[:, start:stop] for role, t in self.taps.items()}
        return self._like(self.value[:, start:stop], taps, self.around.positions(start, stop))

    def require_rows(self) -> int:
        """Number of rows in hand.

        Raises:
            CompositionError: If the batch size is not known.
        """
        if self.around.batch_size is None:
            raise CompositionError(
                "a composition by rows needs the batch size, and no one size is seen in the model's inputs; pass the "
                "inputs as keyword tensors with the batch first, all of one size"
            )
        return int(
            self.around.batch_size
        )  # a number that is left open while exporting is settled here, which export says by name

    def _like(self, value: Tensor, taps: Mapping[str, Tensor], around: SiteContext, rows: Rows | None = None) -> Reads:
        raise NotImplementedError


class BranchReads(Reads):
    """A branch's output y before it is added: ``stream`` is s + scale · y, ``normed`` its norm in a post-norm model.

    Where a module returns s + y at once (``summed``), the value is the stream and y is what is left without s.
    """

    def __init__(
        self,
        value: Tensor,
        taps: Mapping[str, Tensor],
        around: SiteContext,
        *,
        scale: float | Tensor | None = None,
        norm: NormCall | None = None,
        summed: bool = False,
    ) -> None:
        super().__init__(value, taps, around)
        self.scale = scale
        self.norm = norm
        self.summed = summed
        self._made: dict[str, Tensor] = {}

    def get(self, role: str) -> Tensor:
        if role == ("stream" if self.summed else "output"):
            return self.value
        if role in ("output", "stream", "normed"):
            if role not in self._made:
                make = {"output": self._output, "stream": self._stream, "normed": self._normed}[role]
                self._made[role] = make()
            return self._made[role]
        return self.taps[role].to(self.value.device)

    def _output(self) -> Tensor:
        return self.value - self.get("residual")

    def _stream(self) -> Tensor:
        residual = self.get("residual")
        if residual.shape != self.value.shape:
            residual = residual.reshape(self.value.shape)
        return residual + (self.value if self.scale is None else self.value * self.scale)

    def _normed(self) -> Tensor:
        return self.get("stream") if self.norm is None else self.norm(self.get("stream"))

    def _like(self, value: Tensor, taps: Mapping[str, Tensor], around: SiteContext, rows: Rows | None = None) -> Reads:
        norm = self.norm.rows(rows) if self.norm is not None and rows is not None else self.norm
        return BranchReads(value, taps, around, scale=self.scale, norm=norm, summed=self.summed)


class StreamReads(Reads):
    """The stream itself: ``output``, ``stream`` and ``normed`` are all it."""

    def get(self, role: str) -> Tensor:
        return self.value if role in ("output", "stream", "normed") else self.taps[role].to(self.value.device)

    def _like(self, value: Tensor, taps: Mapping[str, Tensor], around: SiteContext, rows: Rows | None = None) -> Reads:
        return StreamReads(value, taps, around)
