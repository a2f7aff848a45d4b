"""What a run says of its model: input, architecture, training, software, availability."""

from __future__ import annotations

import re
from typing import Any

from medssl.errors import count
from medssl.report.about import all_synthetic
from medssl.report.checklists.data import joined
from medssl.report.checklists.item import Fill
from medssl.report.checklists.known import Known, mapping
from medssl.report.recipe import block, policy_lines
from medssl.report.words import duration, listing

LICENCE = "Apache-2.0"
"""Of medssl itself; that of an encoder is its authors' choice."""
_RUN, _RECIPE, _CARD, _SCORES = "run.json", "recipe.yaml", "encoder.safetensors", "scores.json"
_LIBRARIES = ("python", "torch", "monai", "pytorch-lightning", "numpy", "scipy", "scikit-learn", "nibabel")


def encoder(known: Known) -> str:
    """Name of the encoder, "" where it is not recorded."""
    return known.plain(str(mapping(known.card.get("encoder")).get("name") or "")) or known.setting("encoder", "name")


def kind(known: Known) -> Fill:
    """What sort of study the run is."""
    if not known.method:
        return Fill()
    what = f"a {encoder(known)} encoder" if encoder(known) else "an encoder"
    probe = "; age is then predicted from its frozen features by ridge regression" if known.scores else ""
    return Fill(f"Deep learning: {what} is pre-trained with the method {known.method}{probe}.", (_RECIPE,))


def architecture(known: Known) -> Fill:
    """Input, layers by name, output width and number of weights."""
    spec = mapping(known.card.get("encoder"))
    name = encoder(known)
    if not name:
        return Fill()
    options = {k: v for k, v in spec.items() if k not in ("name", "in_channels", "shape")}
    chosen = f" with {listing([f'{_words(k)} {_short(v)}' for k, v in options.items()])}" if options else ""
    shape, channels = spec.get("shape"), spec.get("in_channels")
    size = " x ".join(map(str, shape)) if isinstance(shape, list) else ""
    values = known.training.get("features")
    given = (
        f"Its input is {count(channels, 'channel')}{size and f' of {size} voxels'}."
        if isinstance(channels, int)
        else ""
    )
    given = f"Its input is {count(values, 'value')}." if isinstance(values, int) else given
    dim = known.card.get("dim")
    out = f"Its output is {count(dim, 'number')} per scan." if isinstance(dim, int) else ""
    trained = f"It has {count(known.parameters, 'trained weight')}." if known.parameters else ""
    head = known.several("method", "projector")
    behind = (f"In training a projector with layers of {' and '.join(head)} stands behind it, which is dropped "
              "afterwards.") if head else ""  # fmt: skip
    text = joined(f"The encoder is {known.plain(name + chosen)}.", given, out, trained, behind)
    return Fill(text, (_CARD,) if spec else (_RECIPE,))


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _short(given: Any) -> str:
    return "-".join(map(_short, given)) if isinstance(given, list) else f"{given}"


def predictors(known: Known) -> Fill:
    """The features that the age probe reads."""
    dim = known.card.get("dim")
    if not isinstance(dim, int):
        return Fill()
    return Fill(f"The predictors are the {dim} features of the frozen encoder, computed from the scan alone; all of "
                "them enter the regression, and none is selected beforehand.", (_CARD,))  # fmt: skip


def judgement(known: Known) -> Fill:
    """Features need no assessor, unless they came in a table."""
    if isinstance(known.training.get("features"), int) or not known.method:
        return Fill()
    return Fill("The features are computed from the scan by a program, with no human judgement.", inapplicable=True)


def building(known: Known) -> Fill:
    """Architecture and training."""
    return Fill(joined(architecture(known).text, training(known).text), (_CARD, _RECIPE, _RUN))


def initialisation(known: Known) -> Fill:
    """Random weights from the seed."""
    seed = known.files.facts.get("seed")
    if not isinstance(seed, int):
        return Fill()
    return Fill(f"The weights start at random (seed {seed}); no weights of another model were used.", (_RUN,))


def training(known: Known) -> Fill:
    """Method, views, optimiser, length, precision, seed."""
    if not known.method:
        return Fill()
    arguments = known.plain(_told(block(known.files.recipe, "method")))
    with_these = f" ({arguments})" if arguments else ""
    first = f"Method {known.method}{with_these}; medssl methods {known.method} tells its idea and paper."
    views = [known.plain(line) for line in policy_lines(known.files.facts.get("views"))]
    shown = f"Views: {'; '.join(views)}." if views else ""
    return Fill(joined(first, shown, _optimiser(known), _length(known), balance(known), _state(known)),
                (_RECIPE, _RUN))  # fmt: skip


def _told(text: str) -> str:
    """Keys and values of a part of the recipe on one line, what is nested in parentheses; null and the name left out.

    >>> _told("name: y_aware\\nkernels:\\n  age:\\n    kernel: rbf\\nprojector:\\n- 256\\n- 128")
    'kernels (age (kernel rbf)), projector 256-128'
    """
    said = []
    for key in re.findall(r"^([\w-]+):", text, re.MULTILINE):
        inner = block(text, key)
        if key == "name" or inner in ("", "[]", "{}"):
            continue
        items = [line[2:].strip() for line in inner.splitlines() if line.startswith("- ")]
        nested = re.match(r"[\w-]+:", inner)
        said.append(f"{_words(key)} {'-'.join(items) if items else f'({_told(inner)})' if nested else inner}")
    return ", ".join(said)


def _optimiser(known: Known) -> str:
    name = known.setting("optim", "name")
    if not name:
        return ""
    rate, decay = known.setting("optim", "lr"), known.setting("optim", "weight_decay")
    schedule, clip = known.setting("optim", "schedule"), known.setting("trainer", "clip")
    parts = {
        f"learning rate {_number(rate)}": rate,
        f"weight decay {_number(decay)}": decay,
        f"schedule {schedule}": schedule,
        f"gradient norm clipped at {_number(clip)}": clip,
    }
    said = ", ".join(text for text, given in parts.items() if given)
    return f"Optimiser {name}{f' ({said})' if said else ''}."


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _length(known: Known) -> str:
    epochs, batch = known.setting("trainer", "epochs"), known.setting("data", "batch_size")
    parts = [f"{epochs} {'epoch' if epochs == '1' else 'epochs'}" if epochs else "",
             f"{batch} scans per batch and device" if batch else "",
             f"precision {known.setting('trainer', 'precision')}" if known.setting("trainer", "precision") else "",
             f"seed {known.files.facts['seed']}" if isinstance(known.files.facts.get("seed"), int) else ""]  # fmt: skip
    said = ", ".join(p for p in parts if p)
    return f"Length: {said}." if said else ""


def _state(known: Known) -> str:
    facts = known.files.facts
    if facts and not known.finished:
        return f"The training is not finished (state: {known.plain(str(facts.get('state', 'unknown')))})."
    continued = facts.get("continued")
    again = f"It was stopped and continued {count(len(continued), 'time')}." if isinstance(continued, list) else ""
    spent = duration(facts.get("created"), facts.get("finished"))
    return joined(f"The training took {spent}." if spent else "", again)


def balance(known: Known) -> str:
    """What evens out sites or groups in training; "" where nothing does."""
    column = known.setting("data", "balance")
    drawn = f"Every batch is drawn evenly over the column {column}." if column else ""
    terms = _block_names(known)
    return joined(drawn, f"Regularisers: {listing(terms)}." if terms else "")


def _block_names(known: Known) -> list[str]:
    """Names of the regularisers, each with the column that it is about."""
    found: list[str] = []
    for line in block(known.files.recipe, "regularizers").splitlines():
        pair = re.fullmatch(r"\s*(?:- )?(name|column): (.+)", line)
        if pair and pair[1] == "name":
            found.append(known.plain(pair[2]))
        elif pair and found:
            found[-1] += f" on {known.plain(pair[2])}"
    return found


def fairness(known: Known) -> Fill:
    """Balanced draws, regularisers and harmonisation, where there are any."""
    how = known.harmonised
    harmonised = f"Features were harmonised over sites before the probes: {how}." if how else ""
    return Fill(joined(balance(known), harmonised), (_RECIPE,))


def imbalance(known: Known) -> Fill:
    """No class imbalance method; draws that are balanced are said."""
    if not known.method:
        return Fill()
    text = "Age is continuous, so no method for imbalanced classes was used and nothing was recalibrated."
    return Fill(joined(text, balance(known)), (_RECIPE,))


def selection(known: Known) -> Fill:
    """The last epoch is the model."""
    if not known.finished:
        return Fill()
    return Fill("The weights are those after the last epoch: no early stopping, and no choice among checkpoints by a "
                "score.", (_RUN,))  # fmt: skip


def ensemble(known: Known) -> Fill:
    """None."""
    return Fill("None: one encoder and one ridge regression.", (_RECIPE,)) if known.method else Fill()


def software(known: Known) -> Fill:
    """Versions and hardware."""
    versions = mapping(known.files.facts.get("versions"))
    own = versions.get("medssl") or known.files.facts.get("medssl_version")
    if not own:
        return Fill()
    named = [f"{name} {versions[name]}" for name in _LIBRARIES if versions.get(name) not in (None, "not installed")]
    machine = mapping(known.files.facts.get("hardware"))
    cores = f", {count(machine['cores'], 'CPU core')}" if isinstance(machine.get("cores"), int) else ""
    card = f", GPU {machine['gpu']}" if machine.get("gpu") else ", no GPU"
    where = f"Trained on {machine['system']}{cores}{card}." if machine.get("system") else ""
    also = f" with {listing(named)}" if named else ""
    return Fill(known.plain(joined(f"medssl {own}{also}.", where)), (_RUN,))


def code(known: Known) -> Fill:
    """What is needed to run the analysis again."""
    own = software(known).text.partition(". ")[0]
    if not own:
        return Fill()
    digest = mapping(known.files.facts.get("hashes")).get("recipe")
    recipe = "The settings are in recipe.yaml" + (f" (sha256 begins with {str(digest)[:12]})." if digest else ".")
    seed = initialisation(known).text
    return Fill(joined(f"{own.rstrip('.')} (medssl is under {LICENCE}).", recipe, seed), (_RUN, _RECIPE))


def protocol(known: Known) -> Fill:
    """The recipe as technical detail."""
    return Fill("All technical settings stand in recipe.yaml; versions, hardware and hashes in run.json.",
                (_RECIPE, _RUN)) if known.files.recipe and known.files.facts else Fill()  # fmt: skip


def dataset(known: Known) -> Fill:
    """Which manifest, by hash; a generated cohort can be made again."""
    digest = mapping(known.files.facts.get("hashes")).get("manifest")
    names = known.manifests()
    if not names:
        return Fill()
    mark = f" (sha256 begins with {str(digest)[:12]})" if digest else ""
    again = (
        "The scans were generated by medssl cohort synth and can be generated again."
        if all_synthetic(known.files)
        else ""
    )
    return Fill(joined(f"The scans and splits are those of {listing(names)}{mark}.", again), (_RUN,))


def specification(known: Known) -> Fill:
    """What a third party needs for predictions in new people."""
    digest = known.card.get("weights_sha256")
    if not digest:
        return Fill()
    text = (
        f"encoder.safetensors (sha256 of the weights begins with {str(digest)[:12]}) holds the encoder and says "
        "how scans are prepared; medssl.load_network reads it, and medssl embed computes features of new scans."
    )
    ridge = (f"The fitted regression is not stored; it is fitted again by "
             f"{known.command('score')}.") if known.scores else ""  # fmt: skip
    return Fill(joined(text, ridge, _licence(known)), (_CARD,))


def _licence(known: Known) -> str:
    stated = known.plain(str(known.card.get("licence") or "not stated"))
    return f"The licence of the encoder is {'not stated yet' if stated == 'not stated' else stated}."


def availability(known: Known) -> Fill:
    """Software, model and data in one statement."""
    own = software(known).text.partition(" with ")[0].rstrip(".")
    first = f"Software: {own}, under {LICENCE}, and recipe.yaml." if own else ""
    parts = [p for p in (specification(known).text, dataset(known).text) if p]
    return Fill(joined(first, *parts), (_RUN, _RECIPE, _CARD))


def odd_input(known: Known) -> Fill:
    """How scans are found that the encoder should not be given."""
    if not known.card:
        return Fill()
    refused = ("medssl refuses a table that lacks a column of the training." if known.card.get("columns") is not None
               else "medssl refuses scans that cannot be read, are constant or hold NaN.")  # fmt: skip
    if not known.card.get("likeness"):
        return Fill(f"{refused} The card says nothing of what the training scans look like, so that scans unlike them "
                    "are not recognised.", (_CARD,))  # fmt: skip
    return Fill(f"{refused} medssl embed compares every new scan with the training scans, names those that look unlike "
                "them and why (column unlike, 0 to 1; beyond 0.95 is rare), and refuses them with --strict.",
                (_CARD,))  # fmt: skip


def interaction(known: Known) -> Fill:
    """Nobody handles scans one by one."""
    if not known.card:
        return Fill()
    return Fill("No step of medssl needs a user's judgement on a scan: features are computed from the command line or "
                "from Python. Scans must come prepared in the same way as the training scans.", (_CARD,))  # fmt: skip
