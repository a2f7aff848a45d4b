"""The record of an OpenBHB scoring: openbhb.json for programs, openbhb.md for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.challenge.extras import LEAST
from medssl.challenge.folds import HELD_OUT, TEST, TITLES
from medssl.evaluation.scores import bar, plain
from medssl.files import Output, refuse_foreign, write_atomic

EXTRA = "not part of the challenge"
CHALLENGE = (
    ("challenge", "L_c = BAcc^0.3 * MAE ext"),
    ("mae_internal", "MAE int"),
    ("rmse_internal", "RMSE int"),
    ("mae_external", "MAE ext"),
    ("site_bacc", "BAcc int"),
)
_OUTPUTS = {
    "openbhb.md": Output("a table of challenge scores", {".md": re.compile(rb"# OpenBHB challenge scores\n")}),
    "openbhb.json": Output("a file of challenge scores", {".json": re.compile(rb'\{\s*"lines":')}),
}
_DASH = "-"


@dataclass(frozen=True, eq=False)
class Board:
    """Scores of representations and their references over the folds.

    lines: name -> {test, held_out (each: mean, sd, ci, folds), leave_site_out, width}; ages in years, BAcc a
    fraction, None where undefined. scored: names of the lines that were asked for. folds: counts and chance of each.
    reduced: what was left out on purpose. notes: what was done otherwise than the challenge, or must be known.
    """

    lines: dict[str, dict[str, Any]]
    scored: tuple[str, ...]
    folds: list[dict[str, Any]]
    notes: tuple[str, ...]
    reduced: tuple[str, ...]
    protocol: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """Sets of test rows that were scored, the split's first."""
        first = next(iter(self.lines.values()))
        return [part for part in (TEST, HELD_OUT) if part in first]

    def to_dict(self) -> dict[str, Any]:
        """The content of openbhb.json: plain numbers, text and None only."""
        content = {
            "lines": self.lines,
            "scored": self.scored,
            "parts": {part: TITLES[part] for part in self.parts},
            "folds": self.folds,
            "reduced": self.reduced,
            "not_part_of_the_challenge": [
                "r2_internal", "r2_external", "rmse_external", "ci", "within_site_r", "leave_site_out",
                "the line site_median",
            ],
            "notes": self.notes,
            "protocol": self.protocol,
            "provenance": self.provenance,
        }  # fmt: skip
        result = plain(content)
        assert isinstance(result, dict)
        return result

    def markdown(self) -> str:
        """For every set of test rows the challenge's columns, then those that are not part of it; then notes."""
        several = len(self.folds) > 1
        out = ["# OpenBHB challenge scores", ""]
        if self.reduced:
            out += [f"**Reduced, not the full protocol: {'; '.join(self.reduced)}.**", ""]
        out.append(
            f"{'Mean ± sd over' if several else 'One fold, so no sd:'} {', '.join(f['name'] for f in self.folds)}. "
            "Ages in years; lower L_c and MAE are better; BAcc is a fraction. "
            f"Chance BAcc: {self._chance()} (1 / training sites)."
        )
        for part in self.parts:
            out += ["", f"## {TITLES[part]}", "", f"Rows: {self._counts(part)}.", ""]
            out += _table(["features", *(title for _, title in CHALLENGE)], self._challenge(part))
            out += ["", f"Columns that are {EXTRA}:", ""]
            out += _table(
                [
                    "features",
                    "R2 int",
                    "R2 ext",
                    "RMSE ext",
                    *(f"{name} 95 % CI" for name in ("L_c", "MAE int", "MAE ext", "BAcc")),
                    "within-site r (sites)",
                ],
                self._extras(part),
            )
        if any(line["leave_site_out"] for line in self.lines.values()):
            out += ["", f"## Every site left out once ({EXTRA})", ""]
            out += _table(["features", "MAE, all rows", "MAE, mean of sites", "sites", "rows"], self._left_out())
        out += ["", *self._reading()]
        out += [f"- {note}." for note in self.notes]
        return "\n".join(out) + "\n"

    def write(self, folder: Path | str) -> Path:
        """Write openbhb.md and openbhb.json into ``folder``, each atomically; returns the path of openbhb.json."""
        target = Path(folder)
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(target / "openbhb.md", self.markdown())
        return write_atomic(target / "openbhb.json", text)

    def _chance(self) -> str:
        return ", ".join(f"{chance:.4f}" for chance in dict.fromkeys(f["chance"] for f in self.folds))

    def _counts(self, part: str) -> str:
        """Train / internal / external rows of every fold."""
        return "; ".join(
            f"{fold['name']} {n['train']} train, {n['internal_test']} internal, {n['external_test']} external"
            for fold in self.folds
            for n in [fold["n"][part]]
        )

    def _challenge(self, part: str) -> list[list[str]]:
        return [
            [_name(name), *(_pair(line[part], metric) for metric, _ in CHALLENGE)] for name, line in self.lines.items()
        ]

    def _extras(self, part: str) -> list[list[str]]:
        rows = []
        for name, line in self.lines.items():
            mean, ci = line[part]["mean"], line[part]["ci"]
            sites = sorted({fold["within_site_sites"] for fold in line[part]["folds"]})
            r = _DASH if mean["within_site_r"] is None else f"{mean['within_site_r']:.2f} ({_span(sites)})"
            rows.append(
                [
                    _name(name),
                    *(_number(mean[metric]) for metric in ("r2_internal", "r2_external", "rmse_external")),
                    *(
                        _range(ci.get(metric), metric)
                        for metric in ("challenge", "mae_internal", "mae_external", "site_bacc")
                    ),
                    r,
                ]
            )
        return rows

    def _left_out(self) -> list[list[str]]:
        return [
            [_name(name), _number(found["mae"]), _number(found["mae_mean_of_sites"]), str(found["sites"]),
             str(found["rows"])]
            for name, line in self.lines.items() if (found := line["leave_site_out"])
        ]  # fmt: skip

    def _reading(self) -> list[str]:
        """How the numbers were made, one line each."""
        lines = [
            f"- Probes: {self.protocol['age']}; {self.protocol['site']}; features neither scaled nor reduced, in "
            f"float64; saga is seeded with {self.protocol['seed']} (the challenge leaves it unseeded).",
            "- constant, age oracle: what no information and perfect information score; site median: the median "
            f"training age of the row's site, of everybody for other sites ({EXTRA}).",
            f"- within-site r: Pearson's r of predicted and true age over the test rows of one site, mean over the "
            f"sites with at least {LEAST} test rows, then over folds.",
        ]
        if resamples := self.protocol["resamples"]:
            lines.append(
                f"- Intervals: percentiles of {resamples} bootstrap samples of "
                f"{self.protocol.get('resampled', 'people')} (one sample serves all folds, a site that it misses keeps "
                "its recall); the fitted probes stay as they are, so the choice of training rows is not in them."
            )
        if any(line["leave_site_out"] for line in self.lines.values()):
            lines.append(
                "- Every site left out once: the ridge search is fitted anew on the rows of all other sites (all rows "
                "of the folds with age and site, train and test); an encoder that was trained on them has seen them."
            )
        return lines


def refuse_foreign_board(folder: Path, table: Path) -> None:
    """Refuse a folder whose openbhb.md or openbhb.json is not of this scoring, or is the table that is scored."""
    for name, kind in _OUTPUTS.items():
        refuse_foreign(folder / name, kind, [table])


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [bar(header), bar(["---"] * len(header)), *(bar(row) for row in rows)]


def _pair(part: Mapping[str, Any], metric: str) -> str:
    """Mean and, where there are several folds, sd."""
    mean, sd = part["mean"][metric], part["sd"][metric]
    digits = 4 if metric == "site_bacc" else 3
    if mean is None:
        return _DASH
    return f"{mean:.{digits}f}" if sd is None else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"


def _range(pair: list[float] | None, metric: str) -> str:
    digits = 3 if metric == "site_bacc" else 2
    return _DASH if not pair else f"[{pair[0]:.{digits}f}, {pair[1]:.{digits}f}]"


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _name(name: str) -> str:
    text = name.replace("_", " ")
    return f"{text} ({EXTRA})" if name == "site_median" else text
