"""What a step halts: recorded once, then held fixed while parameters move."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from medssl.methods.base import Method
from medssl.types import Step


class Halted:
    """The tensors that a method passes through ``halt``, in the order of the calls.

    ``record`` runs a step and fails where they are not those of ``halts``, or carry no gradient that could be
    stopped, or are not stopped. ``replay`` runs a step in which ``halt`` gives the recorded tensors.
    """

    def __init__(self, method: Method) -> None:
        self.method, self.kept = method, list[tuple[str, Tensor]]()

    def record(self, step: Callable[[], Step]) -> Step:
        """A step, whose halted tensors are kept."""
        plain = self.method.halt

        def halt(name: str, x: Tensor) -> Tensor:
            assert x.requires_grad, f"'{name}' is halted, but has no gradient"
            constant = plain(name, x)
            assert not constant.requires_grad, f"'{name}' is declared as halted, but its gradient flows"
            self.kept.append((name, constant.clone()))
            return constant

        out = self._with(halt, step)
        names, declared = {name for name, _ in self.kept}, self.method.halts
        assert names == declared, f"halted are {sorted(names)}, but declared are {sorted(declared)}"
        return out

    def replay(self, step: Callable[[], Step]) -> Step:
        """A step with the recorded constants."""
        rest = iter(self.kept)

        def halt(name: str, x: Tensor) -> Tensor:
            kept, constant = next(rest)
            assert kept == name, f"'{name}' is halted where '{kept}' was"
            return constant

        return self._with(halt, step)

    def _with(self, halt: Callable[[str, Tensor], Tensor], step: Callable[[], Step]) -> Step:
        self.method.halt = halt  # type: ignore[method-assign]
        try:
            return step()
        finally:
            del self.method.halt
