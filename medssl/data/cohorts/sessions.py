"""sub-XX/sub-XX_sessions.tsv of a BIDS folder: values by visit, over those of the participants table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medssl.data.cohorts.merge import rows_joined
from medssl.data.cohorts.persons import tidy
from medssl.data.cohorts.tables import raw_table, without_words
from medssl.data.cohorts.visits import Named
from medssl.errors import ManifestError
from medssl.tables.people import bare
from medssl.tables.pointers import stands_in

_NAMES = ("session_id", "session", "visit")


def merge_sessions(out: pd.DataFrame, places: Sequence[Path], notes: list[str], sessions: Named = ()) -> pd.DataFrame:
    """Values of sub-XX/sub-XX_sessions.tsv over those of the participants table, where they are given.

    Errors: ManifestError for a table whose content has not been fetched, without a column of sessions, or where no
    session of a person meets one in the folder.
    """
    said: list[str] = []
    tables, homes = [], []
    for subject in dict.fromkeys(out["participant_id"]):
        for place in dict.fromkeys(places):
            path = place / subject / f"{subject}_sessions.tsv"
            if not path.is_file() and not stands_in(path):
                continue
            table = raw_table(path, said)
            name = next((n for wanted in _NAMES for n in table.columns if n.lower() == wanted), None)
            if name is None:
                raise ManifestError(f"{path}: has no column session_id; name the session of each row")
            tables.append(table.rename(columns={name: "session_id"}).assign(participant_id=str(subject)))
            homes.append(place)
            break
    if not tables:
        return out
    # All together, since the codes and units of a column cannot be told from one person's rows.
    source = homes[0] / "sessions.tsv"
    whole = pd.concat(tables, ignore_index=True).fillna("").astype(object)
    rows = tidy(without_words(whole, source, said), source, said)
    whose = [bare(label, "sub") for label in rows["participant_id"]]
    extra, _ = rows_joined(out[["participant_id", "session"]], rows, whose, said, sessions, "sessions.tsv")
    for name in extra.columns:
        given = (extra[name] != "") & extra[name].notna()
        if name not in out:
            out[name] = float("nan") if name == "age" else ""
        out[name] = extra[name].where(given, out[name])
    notes += said[:6] + ([f"and {len(said) - 6} more notes on tables of sessions"] if len(said) > 6 else [])
    return out
