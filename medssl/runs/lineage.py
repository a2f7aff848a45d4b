"""Whether artefacts belong together: a run and its cohort, a table and what its encoder was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.data.loading.contents import Began, Contents, changed
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.copies import file_key
from medssl.distributed import process_is_first
from medssl.documents.json_file import LARGEST_LOG, read_bytes
from medssl.encoders.file import load_encoder, read_card, weights_digest
from medssl.environment import now
from medssl.errors import StaleError, UserError
from medssl.features.table import FeatureTable
from medssl.files import write_atomic
from medssl.recipe.build import Assembly
from medssl.recipe.model import Recipe, file_digest, load_recipe
from medssl.runs.folder import Run
from medssl.runs.modality import named_in, trained_on
from medssl.runs.network import network_of
from medssl.tables.people import GROUP, families_of, family_cells, groups_of, torn
from medssl.tables.spelling import (
    alike_families,
    alike_names,
    alike_people,
    said_of_families,
    said_of_names,
    said_of_people,
)  # fmt: skip
from medssl.training.hardware.device import processes

_PLACES = (
    "trainer.accelerator", "trainer.devices", "trainer.nodes", "trainer.strategy", "trainer.timeout",
    "trainer.threads", "data.batch_size", "data.workers", "data.cache",
)  # fmt: skip


def same_parents(run: Run, parts: Assembly) -> None:
    """Refuse to continue on other scans or by another recipe than the run began with."""
    before = run.read_info().get("hashes", {})
    made = parts.info["hashes"]
    now_there = {"manifest": str(made["manifest"]), "recipe": file_digest(run.recipe), "scans": str(made["scans"])}
    for parent, digest in now_there.items():
        if before.get(parent) != digest:
            paths = [run.recipe] if parent == "recipe" else parts.cohort.paths
            raise changed(parent, run.folder, str(before.get(parent)), digest, paths)


def began(run: Run) -> Began:
    """What a run that is continued was started on; refused where its own recipe or list of scans was changed."""
    info = run.read_info()
    hashes, kept = info.get("hashes", {}), info.get("contents")
    if hashes.get("recipe") != (digest := file_digest(run.recipe)):
        raise changed("recipe", run.folder, str(hashes.get("recipe")), digest, [run.recipe])
    contents = None
    if kept is not None:
        remedy = "restore it, or start a new run"
        contents = Contents.parse(read_bytes(run.scans, remedy, LARGEST_LOG).decode("utf-8", "replace"), run.scans)
        if contents.digest != kept:
            raise UserError(f"{run.scans} is not the list of scans that {run.folder} was started on; {remedy}")
    return Began(run.folder, str(hashes.get("manifest")), contents, "contents" not in info)


def continued(run: Run, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run that is continued; overrides may say where it runs, but not what it computes."""
    for override in overrides:
        key = override.partition("=")[0]
        if key not in _PLACES:
            raise UserError(
                f"override '{override}': --resume continues a run with its own recipe and lets you change only "
                f"{', '.join(_PLACES)}; leave it out, or start a new run"
            )
    return load_recipe(run.recipe, overrides)


def note(run: Run, recipe: Recipe, checkpoint: Path, scans: str | None) -> None:
    """Write into run.json with what a run was continued, and beside it the state of its scans (text of scans.csv)."""
    if process_is_first():
        if scans is not None and run.scans.is_file():
            write_atomic(run.scans, scans)
        step = int(checkpoint.stem.rpartition("-")[2])
        entry: dict[str, Any] = {"when": now(), "after_step": step, "processes": processes(recipe.trainer)}
        entry["batch_size"] = recipe.data.batch_size
        run.update({"continued": [*run.read_info().get("continued", []), entry]})


def older(run: Began) -> list[str]:
    """What must be said of a run that an older medssl started."""
    if not run.old:
        return []
    return [
        f"{run.run} was started by an older medssl, which kept no checksums of its scans; only their names and sizes "
        "are compared"
    ]


def own_encoder(path: Path) -> None:
    """Refuse a run folder whose encoder is that of another run."""
    run = Run(path)
    if not run.info.is_file():
        return
    hashes = run.read_info().get("hashes", {})
    if "encoder" not in hashes or not run.encoder.is_file():
        return
    if weights_digest(load_encoder(run.encoder)) != hashes["encoder"]:
        raise StaleError(f"{run.encoder} is not the encoder that {path} trained; put it back, or train again")


def own_cohort(run: Path, cohort: Cohort) -> None:
    """Refuse to take a changed manifest for the one that the run was trained on."""
    trained = Run(run).read_info().get("hashes", {}).get("manifest") if run.is_dir() else None
    if trained is not None and trained != cohort.digest:
        names = ", ".join(str(p) for p in cohort.paths)
        raise UserError(
            f"{names} changed since {run} was trained on it, so its splits cannot be trusted; restore it, or name the "
            f"manifest: `medssl embed {run} MANIFEST -o features.csv`, then `medssl score features.csv`"
        )


def same_modality(run: Path, cohort: Cohort) -> None:
    """Refuse images of OpenBHB of another modality than the encoder was trained on; own scans do not tell theirs."""
    card = read_card(run)
    trained = trained_on(card)
    other = named_in(cohort.table.filter(list(card.get("images", ("image",))))) - trained
    if trained and other:
        raise UserError(
            f"{run} was trained on {' and '.join(sorted(trained))}, but {', '.join(map(str, cohort.paths))} names "
            f"images of {' and '.join(sorted(other))}, which it would misread; give images of what it was trained on"
        )


def origin_of(cohort: Cohort, sources: Any) -> dict[str, Any]:
    """What provenance says of the manifests: their paths, and their weights where any has one (the hash sees them)."""
    listed = sources if isinstance(sources, Sequence) and not isinstance(sources, str) else ()
    weights = [float(s.get("weight", 1.0)) if isinstance(s, Mapping) else 1.0 for s in listed]
    paths = [str(Path(p).resolve()) for p in cohort.paths]
    return {"manifests": paths} | ({"weights": weights} if any(w != 1 for w in weights) else {})


def sources_of(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The manifests that a features table was made from, with the weights that they had."""
    paths = list(provenance.get("manifests", ()))
    weights = provenance.get("weights", [1.0] * len(paths))
    return [{"path": path, "weight": weight} for path, weight in zip(paths, weights, strict=True)]


def seen_in_training(table: FeatureTable, by_files: bool = True) -> list[str]:
    """Notes where test rows show scans, people or families that the encoder was trained on, or that may be them.

    by_files: also of scans, where their contents have not told already (see ``medssl.runs.same_scans``).
    Of a manifest that changed since, a note says so. There are none where the table is of the training cohort itself
    (whose splits were checked before the training), and where the run or a manifest is gone.
    """
    source = table.provenance
    run, scored = Path(str(source.get("run", ""))), sources_of(source)
    if not run.exists() or not scored or not all(Path(s["path"]).is_file() for s in scored):
        return []
    network = network_of(run, False)
    if not network.manifests or not all(Path(s["path"]).is_file() for s in network.manifests):
        return []
    of_scans = network.columns is None
    trained, tested = Cohort.read(network.manifests, images=of_scans), Cohort.read(scored, images=of_scans)
    if source.get("manifest") not in (None, tested.digest):
        names = " and ".join(str(path) for path in tested.paths)
        return [f"{names} changed since the features were made, so who was trained on is told by the table alone"]
    if trained.digest == tested.digest or "manifest" not in source:
        return []
    before = trained.table.iloc[trained.rows("train")]
    test = tested.table[tested.table["split"].isin(["internal_test", "external_test"])]
    spelled = _spelled(trained, before, tested, test)
    known = {key for cell in before["image"].unique() if cell and (key := file_key(cell) or cell)}
    cells = test["image"].tolist() if by_files else []
    scans = [test.index[k] for k, cell in enumerate(cells) if cell and (file_key(cell) or cell) in known]
    if scans:
        return [
            f"{len(scans)} of {len(test)} test scans were trained on by this encoder (first: "
            f"{tested.where(int(scans[0]))}), so their scores say nothing about new people",
            *spelled,
        ]
    people = test.index[test["subject"].isin(set(before["subject"]))]
    if len(people):
        return [
            f"{len(people)} of {len(test)} test rows carry the id of somebody this encoder was trained on (first: "
            f"{tested.where(int(people[0]))}); fill the column dataset where they are different people",
            *spelled,
        ]
    return [*_relatives(before, test, tested), *spelled]


def _spelled(trained: Cohort, before: pd.DataFrame, tested: Cohort, test: pd.DataFrame) -> list[str]:
    """Notes on test rows whose person, family or site may be one that was trained on, in another spelling."""
    both = pd.concat([before, test], ignore_index=True)
    old = np.arange(len(both)) < len(before)
    ids, datasets, subjects = (both[name].tolist() for name in ("participant_id", "dataset", "subject"))
    sources = ["the training" if is_old else "this table" for is_old in old]
    pairs = [pair for pair in alike_people(ids, datasets, subjects, old, ~old, sources) if pair.apart]
    places = []
    for pair in pairs:
        places += [trained.where(int(before.index[pair.one])), tested.where(int(test.index[pair.other - len(before)]))]
    related = pd.concat([_who(before), _who(test)], ignore_index=True)
    families = [pair for pair in alike_families(related, old, ~old, sources) if pair.apart]
    homes = []
    for pair in families:
        homes += [trained.where(int(before.index[pair.one])), tested.where(int(test.index[pair.other - len(before)]))]
    said = [said_of_people(pairs, places), said_of_families(families, homes)]
    for column in ("site", "dataset"):
        names = both[column].to_numpy(dtype=object)
        across = [group for group in alike_names(names.tolist(), column) if set(group) & set(names[old])]
        new = {name for group in across for name in group} - set(names[old])
        said.append(said_of_names([name for name in names if any(new & set(g) and name in g for g in across)], column))
    return [words for words in said if words]


def _relatives(before: pd.DataFrame, test: pd.DataFrame, tested: Cohort) -> list[str]:
    """A note where test rows are of families that were trained on."""
    both = pd.concat([_who(before), _who(test)], ignore_index=True)
    old = np.arange(len(both)) < len(before)
    found = torn(groups_of(both), families_of(both), old, ~old)
    if found is None:
        return []
    row = int(test.index[found.other - len(before)])
    return [
        f"{found.rows} of {len(test)} test rows are of a family that this encoder was trained on (first: "
        f"{tested.where(row)}); fill the column dataset where they are different families"
    ]


def _who(table: pd.DataFrame) -> pd.DataFrame:
    """Subject, data set and family of every row."""
    return table[["subject", "dataset"]].assign(**{GROUP: family_cells(table)}).astype(object)
