"""The command ``medssl``: parse, call one stage, print. Heavy imports happen inside commands."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import typer

from medssl.cli.benchmark import app as benchmark
from medssl.cli.cohort import app as cohort
from medssl.cli.demo import demo
from medssl.cli.methods import methods
from medssl.cli.openbhb import app as openbhb
from medssl.cli.parse import notes_aloud, say
from medssl.cli.run import embed, pretrain, report, score
from medssl.cli.study import app as study

app = typer.Typer(
    name="medssl",
    help="Pre-train 3D brain encoders on healthy cohorts, keep biology, drop the scanner, and score the result.",
    epilog="Start with `medssl demo`; every command has its own --help with an example. Add --debug for tracebacks.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cohort, name="cohort", short_help="Manifests: scan a folder, check it, split it by site and person.")
app.add_typer(openbhb, name="openbhb", short_help="The OpenBHB challenge: its probes, and submissions to it.")
app.add_typer(benchmark, name="benchmark", short_help="Compare many methods on one cohort.")
app.add_typer(study, name="study", short_help="Sweep settings of a recipe, resumable.")
app.command(short_help="Train an encoder as a recipe says.")(pretrain)
app.command(short_help="Write the features of every scan of a manifest.")(embed)
app.command(short_help="Score age on known and unseen sites, and the site.")(score)
app.command(short_help="Write one HTML page about a run, or a checklist.")(report)
app.command(short_help="List the methods, or show one with its recipe.")(methods)
app.command(short_help="Go through everything on a synthetic cohort.")(demo)

_STOPPED = 130  # exit status after Ctrl-C


def _version(asked: bool) -> None:
    if asked:
        from medssl import __version__

        say(f"medssl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Entry point: whatever goes wrong ends in one sentence and a non-zero exit status."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with notes_aloud():
            status = app(prog_name="medssl", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = _STOPPED
    except Exception as problem:
        if hasattr(problem, "format_message"):  # what click says of a wrong command line
            _usage(problem)
        if debug:
            raise
        _fail(_sentence(problem), _STOPPED if type(problem).__name__ == "StoppedByHand" else 1)
    if status == _STOPPED:
        _fail(
            "stopped by hand; nothing half-written was kept, and the same command goes on from there",
            _STOPPED,
        )
    raise SystemExit(status if isinstance(status, int) else 0)


def _usage(problem: Any) -> NoReturn:
    if type(problem).__name__ == "NoArgsIsHelpError":
        problem.show()
        raise SystemExit(2)
    context = getattr(problem, "ctx", None)
    help_of = f"; see `{context.command_path} --help`" if context else ""
    _fail(f"{problem.format_message().rstrip('.')}{help_of}", 2)


def _sentence(problem: Exception) -> str:
    from medssl.errors import TrainingStopped, UserError

    if isinstance(problem, UserError | TrainingStopped):
        text = str(problem)
        if "Original Traceback" in text:  # a worker process raised it; its own sentence stands last
            text = text.strip().splitlines()[-1].partition(": ")[2]
        return text
    if isinstance(problem, OSError):
        from medssl.files import no_room

        if problem.filename is None and no_room(problem, Path(), ""):
            return "no space is left on the disk that the output goes to; free some, or choose another place"
        if sentence := no_room(problem, Path(str(problem.filename)), "choose another folder"):
            return sentence
    if isinstance(problem, FileNotFoundError) and "usable temporary directory" in str(problem):
        return (
            "no folder takes temporary files (its disk is full, or nothing may be written there); free some space, or "
            "set TMPDIR to another folder"
        )
    if isinstance(problem, FileNotFoundError) and not problem.filename:  # what the system says of a working folder
        return "the folder that this command was started in is no longer there; change to another one"
    if isinstance(problem, OSError) and problem.filename:
        return f"{problem.filename}: {(problem.strerror or type(problem).__name__).lower()}; {_remedy(problem)}"
    if isinstance(problem, MemoryError) or "out of memory" in str(problem).lower():
        return "the memory does not suffice; set a smaller data.batch_size (--batch for embed), encoder or shape"
    return f"unexpected {type(problem).__name__}: {problem}; run again with --debug and report the traceback"


def _remedy(problem: OSError) -> str:
    if isinstance(problem, FileNotFoundError):
        return "put it back where it was, or correct its path"
    if isinstance(problem, PermissionError):
        return "change its permissions, or choose another place"
    return "check its disk, or choose another place"


def _fail(text: str, status: int) -> NoReturn:
    from medssl.errors import shown

    say(f"medssl: {'' if status == _STOPPED else 'error: '}{shown(' '.join(text.split()))}", err=True)
    raise SystemExit(status)
