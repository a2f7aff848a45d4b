"""The contract of every method: what is computed on a batch, and what is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from medssl.types import Features, Shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medssl.types import Batch, Embed, Facts, Joint, Progress, Rows, Step


class Term(Protocol):
    """A regulariser (``methods/regularizers``): its name in the logs, the columns it reads, a scalar of a step."""

    name: str
    reads: tuple[str, ...]

    def __call__(self, method: Method, joint: Joint) -> Tensor:
        """The term before its weight."""
        ...


class Method(nn.Module):
    """An algorithm on top of an encoder. ``encoder`` is the only part that is kept after training.

    Class attributes say what a method asks for before anything is built: ``views`` (views per scan; ``sees`` where they
    are no plain views of the whole scan), ``needs``
    (what the encoder must return: "pooled", "map" or "tokens"). Instances refine ``reads`` (manifest columns;
    a method that reads a label through a kernel knows its name only then) and ``wants`` (answers that the view
    maker draws, by name and shape per scan, such as ``{"latent": (64,)}``), so that a step itself draws nothing.

    A loss that takes something its parameters made as a constant (a target, what the other player sees) passes it
    through ``halt`` and names it in ``halts``: its gradient is the derivative of the loss with these held fixed. The
    common checks fail on a detached tensor that is not declared, and on a declared one that is not halted.
    """

    views: ClassVar[int] = 2
    needs: ClassVar[str] = "pooled"
    normalised: ClassVar[bool] = True  # whether ``project`` returns rows of length 1
    joint: ClassVar[bool] = False  # whether ``step`` compares projected rows and adds ``regularizers`` to its loss
    halts: ClassVar[frozenset[str]] = frozenset()  # names of the tensors that a step passes through ``halt``

    def __init__(self, encoder: nn.Module, facts: Facts) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = int(encoder.dim)  # type: ignore[arg-type]  # E, the size of the pooled features
        self.reads: tuple[str, ...] = ()
        self.wants: Mapping[str, tuple[int, ...]] = {}
        self.chance: float | None = None  # the loss of an uninformative representation, where it is known
        self.kernels: Mapping[str, Any] = {}  # column -> kernel that says how alike two labels are
        self.regularizers: tuple[tuple[float, Term], ...] = ()  # weights and terms, set after building
        self.spares_relatives = False  # whether scans of one person never repel each other in the loss

    @classmethod
    def refuse(cls, arguments: Mapping[str, Any]) -> None:
        """RecipeError for arguments (all of them, each in its declared range) that do not go together.

        Called with a recipe, before any data are read.
        """

    @classmethod
    def sees(cls, arguments: Mapping[str, Any]) -> Shown:
        """What a scan is shown as, for these arguments (all of them): by default ``views`` views of the whole scan.

        Called with a recipe, before any data are read.
        """
        return Shown("pair", {"n_views": cls.views})

    def step(self, batch: Batch, progress: Progress) -> Step:
        """Compute one loss per player. Reads memory, never moves it, draws no randomness but dropout's."""
        if not self.embeds():
            raise TypeError(f"{type(self).__name__} must define step(), or compare()")
        return self.compare(self.embed(batch), replace(batch, views=()), progress)

    @classmethod
    def embeds(cls) -> bool:
        """Whether a step is ``compare(embed(batch))``, so that ``trainer.micro_batch`` can cache gradients."""
        return cls.compare is not Method.compare

    def embed(self, batch: Batch) -> Rows:
        """What ``compare`` needs of every view of every scan: tensors (V, B, ...), here the encoder's pooled h.

        The rows of a scan depend on no other scan (but through batch norm): the trainer may make them for a few scans
        at a time, and twice, the second time with gradient. So everything large belongs here.
        """
        h_NE = stack_views(self.encoder, batch.views).pooled
        return (h_NE.unflatten(0, (len(batch.views), -1)),)

    def compare(self, rows: Rows, batch: Batch, progress: Progress) -> Step:
        """The losses as a function of all rows of the batch: projector, gathering, regularisers; sees no views.

        A method that defines this, and not ``step``, can be trained on batches that memory does not hold.
        """
        raise TypeError(f"{type(self).__name__} must define compare()")

    def after_step(self, step: Step, batch: Batch, progress: Progress) -> None:
        """Move memory, once per optimiser step: EMA, queue, bank.

        Under gradient accumulation ``step`` and ``batch`` join its micro-batches: rows of ``carry``, index, meta and
        target one after another; there are no views and no losses.
        """

    def before_epoch(self, embed: Embed, progress: Progress) -> Sequence[nn.Module] | None:
        """Look at the whole cohort before an epoch: k-means, optimal transport.

        Returns the modules whose weights it initialised anew, whose optimiser state then starts anew too: moments of
        the old weights would move the new ones, and uphill. None where there are no such modules.
        """
        return None

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Who is optimised on which loss; one player called "loss" unless a method is a game."""
        return {"loss": [p for p in self.parameters() if p.requires_grad]}

    def scan_weights(self) -> Tensor | None:
        """Sampling weights of all rows (scans,) for the next epoch, or None for every scan once."""
        return None

    def regularised(self, loss: Tensor, joint: Joint) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss plus weight times every regulariser, and the terms before their weights for the log."""
        terms = {term.name: (weight, term(self, joint)) for weight, term in self.regularizers}
        for weight, term in terms.values():
            loss = loss + weight * term
        return loss, {name: term.detach() for name, (_, term) in terms.items()}

    def halt(self, name: str, x: Tensor) -> Tensor:
        """The tensor as a constant of the loss, without gradient; ``name`` is one of ``halts``."""
        return x.detach()

    def project(self, features: Features) -> Tensor:
        """z (N, D) that the loss compares, for ``medssl embed --projection``; the pooled h where there is none."""
        return features.pooled


def stack_views(encoder: nn.Module, views: tuple[Tensor, ...]) -> Features:
    """All views through the encoder, stacked view-major: row r = v * B + b.

    One forward pass, or one for every size where views differ in size; then only ``pooled`` is there, as maps of
    different sizes cannot be stacked.
    """
    sizes = list(dict.fromkeys(view.shape[1:] for view in views))
    if len(sizes) < 2:
        features: Features = encoder(torch.cat(views))
        return features
    pooled: dict[int, Tensor] = {}
    for size in sizes:
        places = [place for place, view in enumerate(views) if view.shape[1:] == size]
        rows_NE = encoder(torch.cat([views[place] for place in places])).pooled
        pooled |= dict(zip(places, rows_NE.chunk(len(places)), strict=True))
    return Features(torch.cat([pooled[place] for place in range(len(views))]))


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Run modules without collecting gradient for their parameters (inputs still receive theirs)."""
    parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
