"""Adapters made of others: merged, collapsed, written out, and put into the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graftwork.attach import base_merge, joining, members
from graftwork.attach.changes import one_at_a_time, whole
from graftwork.attach.collapsing import Collapsed, collapse
from graftwork.attach.merging import Merged, Rule, merge
from graftwork.attach.registry import Registry
from graftwork.compose import Composition, Learned
from graftwork.forward.heads_in_use import OWN


class Combining(Registry):
    """Makes one adapter of several, and puts LoRAs into the base."""

    @one_at_a_time
    def merge(
        self,
        name: str,
        of: Mapping[str, float] | Sequence[str],
        *,
        start: str | None = None,
        head_from: str | None = None,
        rule: str = "sum",
        density: float = 1.0,
        rank: int | None = None,
        seed: int = 0,
    ) -> Merged:
        """Add an adapter whose weights are a weighted sum of those of adapters of one configuration, or made by TIES or DARE.

        Its norms and what its sites share are summed up too. The result is an adapter like any other.

        Args:
            name: A name that is free.
            of: The names of the adapters, for their mean; or a weight for each. Weights that do not add up to one are task
                arithmetic: ``{"a": 1.0, "b": -1.0}`` is what a has learned minus what b has learned.
            start: An adapter that all of them started as; the weights are then those of the differences from it. By default
                the start is zero, and for norms the base's norm: a negative weight then negates the initial values too.
            head_from: The adapter whose head is copied. By default the heads are summed up as well, where their labels
                agree and the weights (with that of the start) add up to one.
            rule: ``"sum"``; ``"ties"`` (Yadav et al. 2023, arXiv:2306.01708), by default with the weight 1 for each;
                ``"dare"`` (Yu et al. 2023, arXiv:2311.03099); or ``"dare_ties"``, both. TIES and DARE work on the differences
                from the start, and of LoRAs, which may be of different ranks, on their products B A.
            density: The share of each adapter's weights that TIES keeps (0.2 in the paper), or DARE with that probability.
            rank: By TIES and DARE the rank of the new LoRA; by default the largest of theirs.
            seed: Of the weights that DARE drops.

        Returns:
            The weights, and how similar the adapters are; printable.

        Raises:
            ConfigError: If the adapters, or their heads, are not of one configuration, labels and size; or a weight is no
                number.
            UnknownNameError: If there is no adapter of a name.
            NameTakenError: If the name is taken.

        Example:
            >>> made = adapters.merge("mean", ["a", "b"])
            >>> adapters.active = "mean"
        """
        made, merged = merge(self, name, of, start, head_from, Rule(rule, density, rank, seed))
        self.register(name, *made)
        return merged

    @one_at_a_time
    def collapse(
        self, composition: Composition, name: str, *, rank: int | None = None, head_from: str | None = None
    ) -> Collapsed:
        """Add one adapter that computes what a composition with constant weights does: names, `Stack`, `Average`, nested.

        Bottlenecks of one non-linearity become one as wide as all together, exactly; so do LoRAs, or one of a given rank. What
        came of LoRAs can be saved for peft (``save(name, folder, format="peft")``).

        Args:
            composition: The composition.
            name: A name that is free.
            rank: For LoRAs the rank of the new one, the nearest by singular values; by default the sum of theirs.
            head_from: The adapter whose head is copied. By default that of the only adapter, else the model's own.

        Returns:
            What it was made of, its widths, and the error of the cut; printable.

        Raises:
            CompositionError: If a weight depends on the input or the row, or one adapter reads what another adds.
            ConfigError: If the adapters are of several kinds, or are no two products.
            NameTakenError: If the name is taken.

        Example:
            >>> adapters.collapse(gw.Average("a", "b"), "both").rank["encoder.layer.0.feed_forward"]
            4
        """
        made, collapsed = collapse(self, composition, name, rank, head_from)
        self.register(name, *made)
        return collapsed

    @one_at_a_time
    def join_gates(self, name: str, gates: Sequence[str], *, top_k: int = 2, head_from: str | None = None) -> Learned:
        """Add one `Route` over adapters whose gates of PHATGOOSE (arXiv:2402.05859) were each trained with its adapter alone.

        Args:
            name: The name of the new block.
            gates: The names of the blocks of one adapter each.
            top_k: How many adapters each position uses.
            head_from: The adapter whose head is copied for the block; by default the model's own head is.

        Returns:
            The block, which can be made active.

        Raises:
            CompositionError: If a block is no such gate, or two read different tensors.
            UnknownNameError: If there is no block of a name.
            NameTakenError: If the new name is taken.

        Example:
            >>> for one in "ab":
            ...     adapters.add_fusion(gw.Route(one, name=f"gate_{one}"), gw.RouteConfig(gate="phatgoose", top_k=1))
            ...     adapters.train_only(f"gate_{one}")
            >>> adapters.active = adapters.join_gates("routed", ["gate_a", "gate_b"], top_k=1)
        """
        block, config, modules = joining.join_gates(self, name, gates, top_k)
        self.register_fusion(block, config, modules, head_from=head_from)
        return block

    @one_at_a_time
    def materialize(self, what: str, name: str) -> None:
        """Add a plain adapter that computes the same as one whose weights are generated, or as one member of it.

        Norms and head are copied.

        Args:
            what: The adapter, or a member such as ``"hyper:mnli"``.
            name: The name of the new adapter.

        Raises:
            UnknownNameError: If there is no adapter or member of that name.
            NameTakenError: If the new name is taken.
            ConfigError: If the method has no plain form.
        """
        self.register(name, *members.exported(self, what, name))

    @whole
    def merge_into_base(self, composition: Composition) -> None:
        """Add LoRAs to the base's own weights, so that they cost nothing to run: names, `Stack` and `Average` of them.

        What is active is set to ``None`` first. Until `unmerge` nothing can be saved or loaded, and what is merged cannot be
        active. ``detach(keep_merged=True)`` leaves the plain model with the new weights.

        Args:
            composition: The LoRAs, with constant weights.

        Raises:
            ConfigError: If one of them is no LoRA.
            CompositionError: If a weight depends on the input or the row.
            AttachError: If a weight of the base is quantised, offloaded or tied, or something is merged already; nothing is
                changed then.

        Example:
            >>> adapters.add("c", gw.LoRA(targets=["query", "value"]))
            >>> adapters.merge_into_base("c")
            >>> adapters.unmerge()
        """
        self.in_base = base_merge.merge_into_base(self, composition)
        self.runtime.active, self.runtime.head = None, OWN
        self.replan()

    @whole
    def unmerge(self) -> None:
        """Put back the weights that `merge_into_base` changed, with the same bits; does nothing where it changed none."""
        base_merge.unmerge(self)
        self.in_base = None
