"""Commands around a submission to the OpenBHB challenge: export, check."""

from __future__ import annotations

from pathlib import Path

import typer


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
        typer.echo(folder / name)


def check(
    folder: Path = typer.Argument(..., metavar="DIR", help="Folder of the submission."),
    run: Path | None = typer.Option(None, help="The run it was made from: compare with `medssl embed`."),
    rows: Path | None = typer.Option(None, metavar="FILE", help="test.npy or train.npy; its first rows are used."),
) -> None:
    """Do with a submission what the challenge's server will do, and say what fails; exit status 1 where anything does.

    Masks are those that VBM_MASK and QUASIRAW_MASK name, or else stand-ins with the true number of voxels.

    \b
    Example:
      medssl openbhb check submission --run runs/exponential
    """
    from medssl.cli.findings import print_checks
    from medssl.export.check import check_submission

    if not print_checks(check_submission(folder, run, rows)):
        raise typer.Exit(1)
