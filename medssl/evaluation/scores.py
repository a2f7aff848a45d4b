"""What a scorecard found: the record that is written as scores.json and printed as a table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluation.caution import SITE_DIRECTION
from medssl.files import Output, refuse_foreign, write_atomic

COLUMNS = (
    "features",
    "MAE known sites",
    "MAE unseen sites [95 % CI]",
    "R2 known / unseen",
    "site BAcc (chance)",
    "challenge",
)
_OUTPUTS = {
    "predictions.csv": Output(
        "a table of predictions", {".csv": re.compile(rb"participant_id,session,site,split,age,predicted,features,")}
    ),
    "scores.json": Output("a file of scores", {".json": re.compile(rb'\{\s*"mae_internal":')}),
}
_DASH = "-"


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a representation beside its references.

    main: mae_internal, mae_external, rmse_*, r2_* (ages in years), site_bacc, site_chance, challenge, ci
    {metric: [low, high]}, probe {alpha, C}; None where undefined. references: name -> the same keys, or
    {"missing": reason}. differences: name -> metric -> {difference, ci, ci_sites}, encoder minus reference;
    ci resamples people or families, ci_sites whole external sites. per_site: list of {site, split, n, mae,
    mae_constant, bias}. n: counts. notes: what was left out or done otherwise. predictions: test rows of every line.
    label: name of the main line in tables; it says how features were harmonised.
    """

    main: dict[str, Any]
    references: dict[str, dict[str, Any]]
    differences: dict[str, dict[str, dict[str, Any]]]
    per_site: list[dict[str, Any]]
    n: dict[str, int]
    notes: tuple[str, ...]
    protocol: dict[str, Any]
    provenance: dict[str, Any]
    predictions: pd.DataFrame = field(repr=False)
    label: str = "encoder"

    def to_dict(self) -> dict[str, Any]:
        """The content of scores.json: plain numbers, text and None only."""
        content = {
            **self.main,
            "references": self.references,
            "differences": self.differences,
            "per_site": self.per_site,
            "n": self.n,
            "notes": list(self.notes),
            "protocol": self.protocol,
            "provenance": self.provenance,
        }
        result = plain(content)
        assert isinstance(result, dict)
        return result

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the printed table under ``COLUMNS``: the encoder first, then the references."""
        return [_cells(self.label, self.main), *(_cells(name, line) for name, line in self.references.items())]

    def markdown(self) -> str:
        """The table, the differences of the error on unseen sites, and the notes."""
        lines = [bar(COLUMNS), bar(["---"] * len(COLUMNS)), *(bar(cells) for cells in self.rows()), ""]
        lines.append(
            f"Ages in years; lower MAE and challenge are better; site BAcc: {SITE_DIRECTION}; "
            f"intervals resample {self.protocol.get('resampled', 'people')}."
        )
        for name, metrics in self.differences.items():
            found = metrics["mae_external"]
            shown = ("unharmonised", "untrained", "ridge_voxels", "ridge_features", "constant")
            if name in shown and found["difference"] is not None:
                text = f"MAE on unseen sites, encoder minus {_name(name)}: {found['difference']:+.2f}"
                if found["ci"]:
                    text += f" {_range(found['ci'])}"
                if found["ci_sites"]:
                    text += f"; whole sites resampled {_range(found['ci_sites'])}"
                lines.append(text)
        lines += [f"Note: {note}." for note in self.notes]
        lines += [
            f"Note: {_name(name)}: {line['missing']}." for name, line in self.references.items() if "missing" in line
        ]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path | str) -> Path:
        """Write predictions.csv and scores.json into ``folder``, each atomically; returns the path of scores.json."""
        target = Path(folder)
        write_atomic(target / "predictions.csv", self.predictions.to_csv(index=False, lineterminator="\n"))
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        return write_atomic(target / "scores.json", text)


def refuse_foreign_scores(folder: Path, table: Path) -> None:
    """Refuse a folder whose predictions.csv or scores.json is not of a scorecard, or is the table that is scored."""
    for name, kind in _OUTPUTS.items():
        refuse_foreign(folder / name, kind, [table])


def _cells(name: str, line: Mapping[str, Any]) -> tuple[str, ...]:
    if "missing" in line:
        return (_name(name), *[_DASH] * (len(COLUMNS) - 1))
    external = _number(line["mae_external"])
    if line["ci"].get("mae_external"):
        external += " " + _range(line["ci"]["mae_external"])
    r2 = f"{_number(line['r2_internal'])} / {_number(line['r2_external'])}"
    site = _number(line["site_bacc"])
    if line["site_bacc"] is not None and line["site_chance"] is not None:
        site += f" ({_number(line['site_chance'])})"
    return (_name(name), _number(line["mae_internal"]), external, r2, site, _number(line["challenge"]))


def _name(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"


def _range(pair: list[float]) -> str:
    return f"[{pair[0]:.2f}, {pair[1]:.2f}]"


def bar(cells: list[str] | tuple[str, ...]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def plain(value: Any) -> Any:
    """JSON types; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
