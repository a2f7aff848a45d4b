"""``python -m tests.mutants``: make every deliberate mistake in a copy of the project, and see that a test fails.

Exit status 0 where every mistake is caught, but for those that are listed as equivalent and do survive.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.listed import MUTANTS
from tests.mutants.run import PASSED, Job, Outcome, Records, digest, jobs_of, run


def verdict(jobs: Sequence[Job], known: dict[str, Outcome]) -> list[str]:
    """What is wrong, a sentence each."""
    wrong = []
    for _, mutant, name, _ in jobs:
        found = known[name]
        if mutant is None:
            if found.code != PASSED:
                wrong.append(f"{name}: the tests fail without any mistake ({found.by}); mend them first")
        elif not found.caught and found.code != PASSED:
            wrong.append(f"{name}: no test ran (pytest ended with {found.code}); mend its selection")
        elif not found.caught and not mutant.equivalent:
            wrong.append(f"{name}: survives; strengthen a check, or say why it is equivalent")
        elif found.caught and mutant.equivalent:
            wrong.append(f"{name}: is caught by {found.by}, so it is not equivalent; drop the reason")
    return wrong


def main() -> int:
    """Parse the command line and run; 1 where a mutant survives without a reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="mutants whose name or file holds one of these texts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--group", choices=["common", "laws", "processes", "own"], help="these tests instead of those listed"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the outcomes of an earlier run")
    given = parser.parse_args()
    mutants = [m for m in MUTANTS if any(text in m.name or text in m.file for text in given.only)]
    if not mutants:
        print(f"no mutant's name or file holds {' or '.join(given.only)}")
        return 2
    kept = Path(tempfile.gettempdir()) / f"medssl-mutants-{digest()}"
    if given.fresh:
        shutil.rmtree(kept, ignore_errors=True)
    jobs = jobs_of(mutants, given.group)
    known = run(jobs, Records(kept / f"{given.group or 'listed'}.jsonl"), given.workers)
    ran = [mutant for _, mutant, _, _ in jobs if mutant is not None]
    caught = sum(known[m.name].caught for m in ran)
    real = sum(not m.equivalent for m in ran)
    print(f"\n{caught} of {real} mistakes are caught ({caught / max(1, real):.0%})")
    for mutant in ran:
        if mutant.equivalent and not known[mutant.name].caught:
            print(f"equivalent: {mutant.name}: {mutant.equivalent}")
    wrong = verdict(jobs, known)
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
