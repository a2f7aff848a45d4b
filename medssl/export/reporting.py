"""What a run contributes to a paper and to a model's page: reporting checklists and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medssl.checks import nearest
from medssl.errors import UserError
from medssl.export.model_card import build_model_card
from medssl.files import make_folder
from medssl.report.checklists.write import CHECKLISTS, build_checklist

ALL = "all"


def write_documents(run: Path, out: Path | None, checklists: Sequence[str], model_card: bool) -> list[Path]:
    """Write checklists by name ("all" for every one) and the model card; returns the paths.

    out: of one document a file or a folder, of several a folder; None writes into the run folder. Raises UserError for
    an unknown name, before anything is written.
    """
    for name in checklists:
        if name not in (*CHECKLISTS, ALL):
            raise UserError(f"unknown checklist '{name}'; {nearest(name, [*CHECKLISTS, ALL])}")
    names = list(CHECKLISTS) if ALL in checklists else list(dict.fromkeys(checklists))
    if len(names) + model_card > 1 and out is not None and not out.is_dir():
        if out.suffix:
            raise UserError(f"{out} names one file, but {len(names) + model_card} are written; give a folder")
        make_folder(out)
    card = [build_model_card(run, out)] if model_card else []  # the strictest one is first
    return [*(build_checklist(run, CHECKLISTS[name], out) for name in names), *card]
