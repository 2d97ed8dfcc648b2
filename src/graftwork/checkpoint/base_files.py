"""The methods of a handle that write and read the difference of a trained base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from graftwork.attach import Handle
from graftwork.attach.changes import one_at_a_time
from graftwork.checkpoint.base import load_base, save_base, unload_base


class BaseFiles(Handle):
    """A handle whose base, where it was trained, can be shared as its difference from the original."""

    @one_at_a_time
    def save_base(self, folder: str | Path, *, against: nn.Module | Mapping[str, Tensor] | None = None) -> Path:
        """Write the difference between a trained base and its original, to be shared with the adapters trained with it.

        The folder has the tensors that ``train_only(..., base=...)`` made trainable, each whole, with the statistics of
        norms where the whole base was trained, and a few values of the original, so that it is loaded on no other base.
        The model's own head is written only where it was trained without adapters, by ``train_only(None, base=...)``.

        Args:
            folder: The folder; created, or replaced where it holds such a difference already.
            against: The original, a model or its ``state_dict()``: then every tensor that differs from it is written,
                however it was changed, and no other.

        Returns:
            The folder.

        Raises:
            CheckpointError: If nothing of the base was trained, ``against`` is another model, or the folder holds
                something else.

        Example:
            >>> adapters.train_only("a", base="norms")
            >>> adapters.save_base(folder / "base")  # doctest: +ELLIPSIS
            PosixPath(...)
        """
        return save_base(self, Path(folder), against=against)

    @one_at_a_time
    def load_base(self, folder: str | Path, *, keep: bool = False) -> None:
        """Turn the base into the trained one that `save_base` wrote; all of it, or nothing.

        Values are copied into the model's own tensors, which keep their flags, dtype and device. The result equals the
        trained base to the bit where the model has the dtype that it was trained in, and is rounded otherwise. On the
        trained base itself nothing changes. `detach` does not undo it.

        Args:
            folder: The folder.
            keep: Keep the original values in memory, for `unload_base`.

        Raises:
            CheckpointError: If the base is neither the original of the difference nor the trained one, or a tensor is
                missing, not expected, of another shape or damaged; no tensor is changed then.

        Example:
            >>> adapters.train_only("a", base="norms")
            >>> adapters.save_base(folder / "base")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> adapters.load_base(folder / "base")
        """
        load_base(self, Path(folder), keep=keep)

    @one_at_a_time
    def unload_base(self) -> None:
        """Put back the original that ``load_base(..., keep=True)`` kept, the same to the bit.

        Raises:
            CheckpointError: If nothing was kept.

        Example:
            >>> original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            >>> adapters.train_only("a", base="norms")
            >>> model.bert.encoder.layer[0].output.LayerNorm.bias.data += 1  # as training does
            >>> adapters.save_base(folder / "base")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> model.load_state_dict(original)
            <All keys matched successfully>
            >>> adapters.load_base(folder / "base", keep=True)
            >>> adapters.unload_base()
        """
        unload_base(self)
