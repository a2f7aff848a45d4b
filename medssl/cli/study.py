"""Studies: one recipe over a grid or a search of settings, chosen on people and sites held out of train."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import say, say_text

app = typer.Typer(
    help="Sweep settings of a recipe on local processes or a Slurm array, resumable; choose on held-out train rows.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
_STUDY = typer.Argument(..., help="A study file, or the name of one in configs/study, such as demo.")
_OUT = typer.Option(None, "-o", "--out", help="Folder of trials, table and figure; default studies/NAME.")
_DATA = typer.Option(None, "--data", help="Manifest or table, where the study names none.")


@app.command(short_help="Run what a study still lacks.")
def run(
    study: str = _STUDY,
    out: Path | None = _OUT,
    data: Path | None = _DATA,
    jobs: int | None = typer.Option(None, min=1, help="Processes; default one per GPU, or per core."),
    task: int | None = typer.Option(None, min=0, metavar="K", help="Only the trials of array task K, in this process."),
    array: bool = typer.Option(False, "--array", help="Take K from SLURM_ARRAY_TASK_ID."),
    of: int | None = typer.Option(None, "--of", min=1, metavar="N", help="Tasks in all; default one per trial."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bar."),
) -> None:
    """Run what a study still lacks; interrupt it and run it again to go on.

    \b
    Examples:
      medssl study run demo -o studies/demo --jobs 2
      medssl study run my.yaml --data cohort/manifest.csv -o studies/mine
      medssl study run my.yaml -o studies/mine --task 3
    """
    import os

    folder = _folder(study, out)
    if array:
        given = os.environ.get("SLURM_ARRAY_TASK_ID", "")
        if task is not None or not given.isdigit():
            raise typer.BadParameter(
                "SLURM_ARRAY_TASK_ID is not set, or --task is given too; use --task K", param_hint="--array"
            )
        task = int(given)
    if of is not None and task is None:
        raise typer.BadParameter(
            "it says how many array tasks there are; give --task K or --array too", param_hint="--of"
        )
    if task is not None and jobs is not None:
        raise typer.BadParameter("an array task runs in one process; leave out --jobs", param_hint="--jobs")
    from medssl.experiments.study.run import run_study, run_task

    if task is None:
        say_text(run_study(study, folder, data=data, jobs=jobs, progress=not quiet)["markdown"])
        _written(folder)
        return
    records = run_task(study, folder, task, of=of, data=data)
    for record in records:
        if record is None:
            say(f"task {task}: another process is at its trial")
        else:
            said = record.get("stopped") or ", ".join(
                f"{k} {v:.3f}" for k, v in record["scores"].items() if v is not None
            )
            say(f"task {task}: {record['name']}: {said}")
    if not records:
        say(f"task {task}: nothing is left to do")


@app.command(short_help="Write table and figure of the trials so far.")
def table(
    folder: Path = typer.Argument(..., metavar="OUT", help="The folder of a study."),
    as_csv: bool = typer.Option(False, "--csv", help="Print all trials as CSV instead of Markdown."),
) -> None:
    """Table, figure and best recipe of the trials so far; works while others run.

    \b
    Example:
      medssl study table studies/mine
    """
    from medssl.experiments.study.run import open_study
    from medssl.experiments.study.table import tabulate

    found = tabulate(open_study(folder))
    say_text(found["csv" if as_csv else "markdown"], nl=not as_csv)
    _written(folder)


@app.command(short_help="Print an sbatch script, one task per trial.")
def slurm(
    study: str = _STUDY,
    out: Path | None = _OUT,
    data: Path | None = _DATA,
    script: Path | None = typer.Option(None, "--script", help="Write the script there instead of printing it."),
    at_once: int = typer.Option(8, min=1, help="Tasks that may run at the same time."),
    cpus: int = typer.Option(8, min=1, help="Cores of each task."),
    gpus: int = typer.Option(1, min=0, max=1, help="GPUs of each task."),
    hours: float = typer.Option(24.0, help="Time limit of each task."),
) -> None:
    """Prepare the folder of a study and print an sbatch script: one array task per trial.

    \b
    Example:
      medssl study slurm my.yaml -o studies/mine --script mine.sh && sbatch mine.sh
    """
    import shlex

    from medssl.experiments.study.plan import load_study
    from medssl.experiments.study.run import prepare
    from medssl.experiments.study.slurm import SCRIPT, array_script
    from medssl.files import refuse_foreign, write_atomic

    if script is not None:
        refuse_foreign(script, SCRIPT, [study, *([] if data is None else [data])])
    name = str(Path(study).absolute()) if Path(study).is_file() else study
    folder, trials = _folder(study, out).absolute(), load_study(study, data).count
    text = array_script(name, folder, trials, data=data, at_once=at_once, cpus=cpus, gpus=gpus, hours=hours)
    prepare(study, folder, data)
    if script is None:
        say_text(text, nl=False)
    else:
        say(f"sbatch {shlex.quote(str(write_atomic(script, text)))}")


def _folder(study: str, out: Path | None) -> Path:
    return out or Path("studies") / Path(study).stem


def _written(folder: Path) -> None:
    from medssl.experiments.study.table import OUTPUTS

    names = [name for name in OUTPUTS if (folder / name).is_file()]
    say(f"written: {', '.join(str(folder / name) for name in names)}", err=True)
