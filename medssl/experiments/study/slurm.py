"""The script of a Slurm array that runs a study, one trial per task; Slurm is the scheduler, there is no other."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from medssl.errors import UserError
from medssl.files import Output

SCRIPT = Output(
    "a script of a study",
    dict.fromkeys((".sh", ".bash", ".sbatch", ".slurm"), re.compile(rb"#!/bin/bash\n#SBATCH --job-name=")),
)
MOST = 1000
"""Tasks of one array: below Slurm's usual MaxArraySize of 1001; more trials share tasks."""
LONGEST_H = 24 * 366
"""Hours that a task may last: a year."""


def array_script(
    study: str,
    out: Path,
    count: int,
    *,
    data: Path | None = None,
    at_once: int = 8,
    cpus: int = 8,
    gpus: int = 1,
    hours: float = 24.0,
) -> str:
    """An sbatch script for ``count`` trials; submitted again it goes on, since finished trials are kept.

    study, data: as given to the command line; out: the study's folder, on a disk that all nodes see. at_once: tasks
    that may run at the same time. cpus, gpus (0: none), hours: of each task. Raises UserError for numbers out of range.
    """
    if min(count, at_once, cpus) < 1 or gpus not in (0, 1) or not 0 < hours <= LONGEST_H:
        raise UserError(
            f"{count} trials, {at_once} at once, {cpus} CPUs, {gpus} GPUs and {hours} hours: all must be above 0, "
            f"a trial uses one GPU or none, and a task lasts at most {LONGEST_H} hours"
        )
    for path in (str(out), str(data or ""), study):
        if not path.isprintable():
            raise UserError(f"{path!r} holds a line break or another control character; choose a path without")
    tasks = min(count, MOST)
    minutes = max(1, round(hours * 60))
    command = [sys.executable, "-m", "medssl", "study", "run", study, "-o", str(out), "--array", "--of", str(tasks)]
    command += [] if data is None else ["--data", str(data.absolute())]
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={''.join(c if c.isalnum() else '-' for c in out.name) or 'study'}",
        f"#SBATCH --array=0-{tasks - 1}%{at_once}",
        "#SBATCH --ntasks=1",
        f"#SBATCH --cpus-per-task={cpus}",
        *([f"#SBATCH --gpus-per-task={gpus}"] if gpus else []),
        f"#SBATCH --time={minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:00",
        "#SBATCH --requeue",
        f"#SBATCH --output={shlex.quote(str(out).replace('%', '%%'))}/slurm-%A_%a.log",
        "# Submit it again after a time limit or a failure: finished trials are kept, begun ones go on.",
        "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
        f"srun {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"
