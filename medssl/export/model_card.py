"""A model card in the format of the Hugging Face hub: README.md with metadata, from what a run knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medssl.documents.yaml_file import to_yaml
from medssl.encoders.file import weights_digest
from medssl.errors import StaleError, UserError
from medssl.files import Output, refuse_foreign, write_atomic
from medssl.heads.file import load_head
from medssl.recipe.catalog import CATALOG
from medssl.report.about import NO_CLINICAL_USE
from medssl.report.checklists import data, discussion, model, performance, scans
from medssl.report.checklists.known import EXTERNAL, INTERNAL, SPLITS, Known, mapping, paths_in, read_known
from medssl.report.markdown import md, table
from medssl.report.ownership import own_digest
from medssl.report.words import SITE_DIRECTION, ordered, row_name, with_interval
from medssl.runs.folder import Run
from medssl.runs.lineage import own_encoder
from medssl.runs.modality import trained_on

CARD = Output("a model card", {".md": re.compile(rb"---\nlibrary_name: medssl\n")})
_TASK = "image-feature-extraction"
_METRICS = (
    ("mae", "Mean absolute error of age [years]"),
    ("rmse", "Root mean squared error of age [years]"),
    ("r2", "R2 of age"),
)
_HUB = {"r2": "r_squared"}
_COLUMNS = {
    "mae_external": "Age error, unseen sites",
    "mae_internal": "Age error, known sites",
    "r2_external": "R², unseen sites",
    "site_bacc": "Balanced accuracy of reading the site",
}


def build_model_card(run: Path, out: Path | None = None) -> Path:
    """Write the model card of a run's encoder and return its path.

    out: a file or a folder; default RUN/model-card/README.md. Raises UserError where the run has no encoder yet, or
    naming the file that is broken, StaleError where encoder, projector or scores are not those of this run.
    """
    known = read_known(run)
    if not known.card:
        raise UserError(f"{run} holds no encoder yet, so there is no model to describe; finish it with "
                        f"`medssl pretrain --resume {run}`")  # fmt: skip
    if own_digest(known.files):
        own_encoder(run)
    _own_projector(Run(run), known)
    target = run / "model-card" / "README.md" if out is None else out
    if target.is_dir() or not target.suffix:
        target = target / "README.md"
    if out is not None:
        refuse_foreign(target, CARD)
    return write_atomic(target, render(known).encode("utf-8", "replace"))


def _own_projector(run: Run, known: Known) -> None:
    """Refuse a projector beside the encoder that this run did not train."""
    if not run.projection.is_file():
        return
    recorded = mapping(known.files.facts.get("hashes")).get("projection")
    if recorded is None and "contents" not in known.files.facts:
        return  # of an older medssl, which kept no checksum of it
    if recorded != weights_digest(load_head(run.projection).projector):
        raise StaleError(f"{run.projection} is not the projector that {run.folder} trained; put it back, or move it "
                         "out of the run folder")  # fmt: skip


def render(known: Known) -> str:
    """The card as text: metadata, then the sections that the hub's template has."""
    parts = [
        *_introduction(known),
        *_uses(known),
        *_loading(known),
        *_training_data(known),
        *_training(known),
        *_evaluation(known),
        *_limits(known),
        *_environment(known),
        *_citation(known),
        *_to_do(known),
    ]
    return f"---\n{to_yaml(metadata(known), width=1_000_000)}{_licence_note(known)}---\n\n" + "\n".join(parts) + "\n"


def metadata(known: Known) -> dict[str, Any]:
    """The metadata block; what only the authors know (licence, hub names of data sets) is left out."""
    table_like = known.card.get("columns") is not None
    tags = ["medical-imaging", "neuroimaging", "self-supervised-learning"]
    tags += ["tabular"] if table_like else ["3d"]
    tags += ["mri"] if trained_on(known.card) or (known.synthetic[0] and not table_like) else []
    tags += ["synthetic-data"] if known.synthetic[0] else []
    named = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in (known.method, model.encoder(known))]
    found: dict[str, Any] = {"library_name": "medssl"}
    found |= _licence(known)
    found |= {} if table_like else {"pipeline_tag": _TASK}
    found["tags"] = list(dict.fromkeys([*tags, *(name for name in named if name)]))
    results = list(_results(known))
    if results:
        found["metrics"] = list(dict.fromkeys(m["type"] for r in results for m in r["metrics"]))
        found["model-index"] = [{"name": known.name, "results": results}]
    return found


def _licence(known: Known) -> dict[str, str]:
    stated = known.plain(str(known.card.get("licence") or "not stated"))
    if stated == "not stated":
        return {}
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", stated.lower()):
        return {"license": stated.lower()}
    return {"license": "other", "license_name": stated}


def _licence_note(known: Known) -> str:
    return "" if _licence(known) else "# license: left to the authors, such as apache-2.0 or cc-by-nc-4.0\n"


def _results(known: Known) -> Iterable[dict[str, Any]]:
    """Results as the hub's model-index wants them, with the values of scores.json."""
    if known.scores is None:
        return
    values, names = known.scores.encoder.values, ", ".join(known.manifests()) or "manifest"
    for split, place in ((EXTERNAL, "unseen sites"), (INTERNAL, "known sites")):
        part = split.partition("_")[0]
        metrics = [{"type": _HUB.get(key, key), "value": values[f"{key}_{part}"], "name": f"{name}, {place}"}
                   for key, name in _METRICS if values.get(f"{key}_{part}") is not None]  # fmt: skip
        if part == "internal" and values.get("site_bacc") is not None:
            metrics.append({"type": "balanced_accuracy", "value": values["site_bacc"],
                            "name": f"Balanced accuracy of reading the site ({SITE_DIRECTION})"})  # fmt: skip
        if metrics:
            yield {
                "task": {
                    "type": "tabular-regression" if known.card.get("columns") is not None else _TASK,
                    "name": f"Age from frozen features by ridge regression, {place}",
                },
                "dataset": {"type": "medssl-manifest", "name": f"{names}, {SPLITS[split]}", "split": split},
                "metrics": metrics,
            }


def _introduction(known: Known) -> list[str]:
    warning = [f"> **{md(data.synthetic(known))}**", ""] if data.synthetic(known) else []
    what = "tables of measures" if known.card.get("columns") is not None else "3D brain scans"
    text = f"This is an encoder of {what}. {model.architecture(known).text} {_idea(known)}"
    return [f"# {md(known.name)}", "", f"> {md(NO_CLINICAL_USE)}", "", *warning, md(text), ""]


def _idea(known: Known) -> str:
    entry = CATALOG.get(known.method)
    return f"It was pre-trained with the method {known.method} ({entry.line.partition(';')[0]})." if entry else ""


def _uses(known: Known) -> list[str]:
    return [
        "## Intended use",
        "",
        "Features for research on groups: input of a simple model, such as a linear probe, that is fitted and tested "
        "on your own data, with people and sites kept apart.",
        "",
        "Not for diagnosis, prognosis, treatment or any other decision about a person. Not for scans prepared "
        "otherwise than below. The authors of the encoder say which population it is meant for.",
        "",
    ]


def _loading(known: Known) -> list[str]:
    spec, dim = mapping(known.card.get("encoder")), known.card.get("dim")
    shape, channels = spec.get("shape"), spec.get("in_channels")
    first: list[str] = []
    if isinstance(shape, list) and all(isinstance(n, int) for n in [*shape, channels, dim]):
        size = ", ".join(map(str, [1, channels, *shape]))
        first = [
            "```python",
            "import medssl",
            "import torch",
            "",
            'encoder = medssl.load_encoder("encoder.safetensors")  # a torch module in eval mode',
            "with torch.no_grad():",
            f"    features = encoder(torch.zeros({size})).pooled  # (1, {dim})",
            "```",
            "",
        ]
    if known.card.get("columns") is not None:
        use = ["A table is embedded by `medssl embed encoder.safetensors TABLE.csv -o features.csv`.", ""]
    else:
        images = known.card.get("images")
        number = len(images) if isinstance(images, list) and images else 1
        names = ", ".join(f'"scan{i or ""}.nii.gz"' for i in range(number))
        use = [
            "A scan, prepared as in training:",
            "",
            "```python",
            "import medssl",
            "import torch",
            "",
            'network = medssl.load_network("encoder.safetensors")',
            f"x = network.prepare({names})  # says so where it looks unlike the training scans",
            "with torch.no_grad():",
            "    features = network.encoder(x).pooled",
            "```",
            "",
            "A whole manifest: `medssl embed encoder.safetensors manifest.csv -o features.csv`.",
            "",
        ]
    wanted = ["Preparation of the input:", "", md(scans.preparation(known).text), ""]
    return ["## How to use it", "", *first, *use, *(wanted if scans.preparation(known).text else [])]


def _training_data(known: Known) -> list[str]:
    rows = [(SPLITS[split].capitalize(), data.about(known, split)) for split in SPLITS]
    told = [scans.acquisition(known).text, data.settings(known).text, data.missing(known).text]
    people = table(("Split", "Scans and people"), [row for row in rows if row[1]])
    return ["## Training data", "", md(data.sources(known).text), "", *people, "",
            *(line for text in told if text for line in (md(text), ""))]  # fmt: skip


def _training(known: Known) -> list[str]:
    told = [model.training(known).text, model.initialisation(known).text, model.selection(known).text]
    return ["## Training procedure", "", *(line for text in told if text for line in (md(text), ""))]


def _evaluation(known: Known) -> list[str]:
    if known.scores is None:
        return ["## Evaluation", "", f"Not evaluated yet. `{known.command('score')}` does that. {known.from_where}", ""]
    rows = []
    for row in ordered(known.scores):
        name = known.plain(row_name(row.key))
        cells = [with_interval(row, m) for m in _COLUMNS] if row.missing is None else ["not computed"] + [""] * 3
        rows.append((name, *cells))
    chance = performance.site_probe(known)
    return [
        "## Evaluation",
        "",
        md(performance.calculation(known).text),
        "",
        *table(("Features", *_COLUMNS.values()), rows),
        "",
        md(f"Age errors are mean absolute errors in years. {performance.uncertainty(known).text} {chance}"),
        "",
        md(discussion.interpretation(known).text),
        "",
        *(line for text in [performance.per_site(known).text] if text for line in ("Per site:", "", md(text), "")),
        *(f"- {md(known.nameless(note))}" for note in known.scores.notes),
        *([""] if known.scores.notes else []),
    ]


def _limits(known: Known) -> list[str]:
    told = [discussion.limitations(known).text, model.odd_input(known).text, model.interaction(known).text]
    return ["## Limits", "", *(f"- {md(text)}" for text in told if text), ""]


def _environment(known: Known) -> list[str]:
    text = model.software(known).text
    return ["## Software and hardware", "", md(f"{text} The energy used was not measured."), ""] if text else []


def _citation(known: Known) -> list[str]:
    entry = CATALOG.get(known.method)
    version = mapping(known.files.facts.get("versions")).get("medssl") or known.card.get("medssl_version")
    lines = [f"- Method: {md(entry.paper)}"] if entry else []
    lines += [f"- Software: {md(known.plain(f'medssl {version}'))} ({model.LICENCE})"] if version else []
    return ["## Citation and contact", "", *lines, "- Encoder, and whom to ask: left to the authors.", ""]


def _to_do(known: Known) -> list[str]:
    told = [
        "Put encoder.safetensors beside this file.",
        "State the licence, and check that the terms of the training data allow to share a model.",
        "Say for which population the encoder is meant, whom to cite and whom to ask.",
    ]
    keys = _keys_of_paths(known.card)
    if keys:
        told.append(f"The card inside encoder.safetensors holds absolute paths of the machine that trained it "
                    f"({', '.join(keys)}), which may show user names; look at it with "
                    "medssl.encoders.file.read_card.")  # fmt: skip
    return ["## For the authors, before this is published", "", *(f"- [ ] {md(text)}" for text in told)]


def _keys_of_paths(record: Mapping[str, Any], before: str = "") -> list[str]:
    """Dotted keys of a card under which absolute paths stand."""
    found: list[str] = []
    for key, inner in record.items():
        if isinstance(inner, Mapping):
            found += _keys_of_paths(inner, f"{before}{key}.")
        elif paths_in(inner if isinstance(inner, list) else [inner]):
            found.append(f"{before}{key}")
    return found
