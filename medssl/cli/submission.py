"""Commands around a submission to the OpenBHB challenge: export, check."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import say


def export(
    run: Path = typer.Argument(..., help="A finished run folder, or an encoder.safetensors file."),
    out: Path = typer.Option(..., "-o", "--out", metavar="DIR", help="Folder of the submission."),
    features: str = typer.Option("h", help="h (encoder) or z (projection head, as the published rows used)."),
    modality: str | None = typer.Option(
        None, help="vbm, quasiraw, xhemi, vbm_roi, desikan_roi or destrieux_roi; default: what the run was trained on."
    ),
) -> None:
    """Write the submission of a run: estimator.py (plain PyTorch, nothing else needed), weights.pth, metadata.pkl.

    \b
    Examples:
      medssl openbhb export runs/exponential -o submission --features z
      medssl openbhb export runs/own-scans -o submission --modality quasiraw
    """
    from medssl.export.openbhb import FILES, export_openbhb

    folder = export_openbhb(run, out, features=features, modality=modality)
    for name in FILES:
        say(folder / name)


def check(
    folder: Path = typer.Argument(..., metavar="DIR", help="Folder of the submission."),
    run: Path | None = typer.Option(None, help="The run it was made from: compare with `medssl embed`."),
    rows: Path | None = typer.Option(None, metavar="FILE", help="test.npy or train.npy; its first rows are used."),
    trust: bool = typer.Option(False, "--trust", help="Also run an estimator.py that medssl did not write."),
    seconds: float = typer.Option(600.0, metavar="S", help="Time after which its process is ended."),
    memory: float = typer.Option(16.0, metavar="GB", help="Memory that its process may hold (Linux)."),
) -> None:
    """Do with a submission what the challenge's server will do, and say what fails; exit status 1 where anything does.

    Nothing is unpickled. estimator.py is run only where it is, letter for letter, what this medssl writes; any other
    is read as text, and run with --trust alone. It runs in a process of its own, in an empty folder, without your
    environment variables, and within --seconds and --memory; it may still read and write what you may, so trust only
    what you have read. Masks are those that VBM_MASK and QUASIRAW_MASK name, or else stand-ins with the true number of
    voxels.

    \b
    Examples:
      medssl openbhb check submission --run runs/exponential
      medssl openbhb check somebody-elses-submission --trust
    """
    from medssl.cli.findings import print_checks
    from medssl.export.check import check_submission
    from medssl.export.process import Limits

    limits = Limits(seconds, memory)
    if trust:
        say(f"the code of {folder / 'estimator.py'} will be run with your rights (--trust)", err=True)
    if not print_checks(check_submission(folder, run, rows, trust=trust, limits=limits)):
        raise typer.Exit(1)
