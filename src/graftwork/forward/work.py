"""What one module does for the adapters under one plan: of all that its `Ports` name, the part that the plan needs."""

from __future__ import annotations

import dataclasses

from graftwork.forward.plan import Plan
from graftwork.forward.ports import Ports


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """The work of one module under one plan; the entries are those of `Ports`.

    Attributes:
        counts: Whether calls are counted.
        inputs: Inputs to carry to a site, before the module runs.
        own_inputs: Inputs that are read where the module's own output is written: at a projection.
        outputs: Outputs to carry to a site.
        writes: Outputs that adapters add to.
        entries: Inputs that adapters add to.
        norm: The number of the norm that is replaced, or ``None``.
        head: The path of the head that is replaced, or ``None``.
    """

    counts: bool
    inputs: tuple[tuple[int | None, int | str, int, str], ...]
    own_inputs: tuple[tuple[int | str, int, str], ...]
    outputs: tuple[tuple[int | None, int | str | None, int, str], ...]
    writes: tuple[tuple[int | None, int | str | None, int, bool], ...]
    entries: tuple[tuple[int, int | str, int, bool], ...]
    norm: int | None
    head: str | None

    @property
    def changes(self) -> bool:
        """Whether the module returns something else than the base's."""
        return bool(self.writes or self.entries) or self.norm is not None or self.head is not None

    @property
    def acts(self) -> bool:
        """Whether anything is carried or changed; counting calls alone is neither."""
        return self.changes or bool(self.inputs or self.own_inputs or self.outputs)

    @property
    def before(self) -> bool:
        """Whether there is something to do before the module runs."""
        return self.counts or bool(self.inputs or self.entries)

    @property
    def after(self) -> bool:
        """Whether there is something to do when the module has run."""
        return bool(self.outputs or self.writes) or self.norm is not None or self.head is not None


def work_of(ports: Ports, plan: Plan) -> Work | None:
    """Return the work of a module, ``None`` where it has none; found once for each plan, and kept there."""
    try:
        return plan.work[ports]  # type: ignore[no-any-return]
    except KeyError:
        work = plan.work[ports] = _work(ports, plan)
        return work


def _work(ports: Ports, plan: Plan) -> Work | None:
    written = {False: plan.branch, True: plan.stream}
    writes = tuple(entry for entry in ports.writes if entry[2] in written[entry[3]])
    inputs = [entry for entry in ports.inputs if entry[3] in plan.taps.get(entry[2], ())]
    here = {entry[2] for entry in writes if entry[0] is None}
    found = Work(
        ports.counted or bool(ports.restarts),
        tuple(entry for entry in inputs if entry[0] is not None or entry[2] not in here),
        tuple(entry[1:] for entry in inputs if entry[0] is None and entry[2] in here),
        tuple(entry for entry in ports.outputs if entry[3] in plan.taps.get(entry[2], ())),
        writes,
        tuple(entry for entry in ports.entries if entry[2] in written[entry[3]]),
        ports.norm if ports.norm in plan.norms else None,
        ports.head if ports.head in plan.heads else None,
    )
    return found if found.before or found.after else None
