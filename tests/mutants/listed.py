"""All deliberate mistakes."""

from __future__ import annotations

from tests.mutants import losses, memories, methods
from tests.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (*memories.MUTANTS, *losses.MUTANTS, *methods.MUTANTS)
