"""Every option of every command is given every odd value: it is used, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import pytest
import typer

from medssl import cli, stages
from medssl.errors import UserError
from tests.attacks.world import Told, World, medssl

BASES: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("my.yaml", "output=new", "trainer.epochs=1", "data.manifest=nowhere.csv"),
    "embed": ("run", "cohort/manifest.csv", "-o", "features.csv"),
    "score": ("run/features.csv", "-o", "scored", "--no-references", "--resamples", "0"),
    "report": ("run",),
    "methods": (),
    "demo": ("-o", "my.yaml", "--quick"),
    "cohort scan": ("cohort", "-o", "scanned.csv"),
    "cohort check": ("cohort/manifest.csv",),
    "cohort synth": ("synthetic", "--subjects", "2", "--sites", "2", "--spacing", "8"),
    "cohort split": ("cohort/manifest.csv", "-o", "split.csv"),
    "cohort cache": ("cohort/manifest.csv", "--spacing", "8", "--shape", "24", "--workers", "1"),
    "openbhb score": ("nowhere.csv",),
    "openbhb export": ("roi", "-o", "exported"),
    "openbhb check": ("nowhere",),
    "benchmark openbhb": ("--preset", "preset.yaml", "--data", "nowhere.csv", "-o", "bench"),
    "study run": ("study.yaml", "--data", "nowhere.csv", "-o", "study"),
    "study table": ("study",),
    "study slurm": ("study.yaml", "--data", "regions.csv", "-o", "study"),
}
"""A valid (or quickly refused) use of every command, to which one option after the other is added."""
FEW: Mapping[str, tuple[str, ...]] = {
    "score": ("nowhere.csv", "-o", "scored"),
    "cohort synth": ("synthetic", "--subjects", "2", "--sites", "3"),
}
"""What stands for a base in the fast tests: refused, where its use takes most of a second for each option."""
VALUES: Mapping[str, str] = {
    "nothing": "",
    "zero": "0",
    "negative": "-1",
    "nan": "nan",
    "inf": "inf",
    "huge": "9" * 30,
    "overflow": "1e400",
    "half": "0.5",
    "word": "x",
    "spaces": "  ",
    "comma": ",",
    "equals": "=",
    "pair": "a=b=c",
    "brackets": "[" * 3000,
    "long": "y" * 5000,
    "bytes": "\udcff",
    "newline": "a\nb",
    "folder": "cohort",
    "absent": "nowhere/at/all.csv",
    "device": "null",
    "endless device": "zero",
    "full device": "full",
    "scan": "cohort/images/sub-0001_T1w.nii.gz",
    "yaml": "my.yaml",
    "markup": "[red]<b>{{x}}%s%n",
}
TOUR_ENDS = "the tour of these tests ends before its first stage, whose arguments `cohort synth` is attacked with"


def commands() -> Iterator[tuple[str, Any]]:
    """All commands with their names, walked from the program itself."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if children is not None:
            for key, child in children.items():
                yield from walk(f"{name} {key}".strip(), child)
        else:
            yield name, command

    yield from walk("", typer.main.get_command(cli.app))


COMMANDS = dict(commands())


PARAMETERS = [(command, p) for command, it in COMMANDS.items() for p in it.params if p.name != "help"]
"""Every option and argument of every command, as the program itself knows them."""


def kinds_of(number: int, few: bool) -> list[str]:
    """Values for the parameter of that number: all, or one, by turns, for the fast tests."""
    kinds = sorted(VALUES)
    return [kinds[number % len(kinds)]] if few else kinds


def cases(command: str, few: bool) -> Iterator[tuple[str, str, list[str]]]:
    """Parameter, kind of value, and the arguments that make the attack."""
    base = list((few and FEW.get(command)) or BASES[command])
    places = next((k for k, word in enumerate(base) if word.startswith("-")), len(base))
    place = 0
    for number, (owner, parameter) in enumerate(PARAMETERS):
        if owner != command:
            continue
        if parameter.param_type_name == "argument":
            for kind in kinds_of(number, few):
                yield parameter.name, kind, [*base[:place], VALUES[kind], *base[min(place + 1, places) :]]
            place += 1
        elif parameter.is_flag:
            yield parameter.name, "given", [*base, parameter.opts[0]]
        else:
            for kind in kinds_of(number, few):
                yield parameter.name, kind, [*base, parameter.opts[0], VALUES[kind]]


def complaint(told: Told) -> str:
    """What is wrong with an answer, or ""."""
    text = told.out + told.err
    if told.status == -1:
        return "hangs"
    for word in ("Traceback", "run again with --debug", "the memory does not suffice"):
        if word in text:
            return f"says '{word}'"
    if told.status == 0:
        return ""
    sentences = [line for line in told.err.splitlines() if line.startswith("medssl: error: ")]
    if len(sentences) != 1:
        return "" if told.status == 1 and not told.err.strip() and told.out else f"says {len(sentences)} sentences"
    return "says too much" if len(sentences[0]) > 1500 else ""


def attacked(command: str, world: World, few: bool) -> list[str]:
    """Every complaint about a command."""
    bad = []
    for name, kind, arguments in cases(command, few):
        world.restore()
        with patch.object(stages, "synthesize", side_effect=UserError(TOUR_ENDS)):
            told = medssl(*command.split(), *arguments)
        found = complaint(told)
        if found:
            bad.append(f"{command} {name} [{kind}]: {found}: {told.status} {(told.err or told.out)[-400:]!r}")
    return bad


def test_every_command_has_a_base():
    """A new command is attacked, or this fails."""
    assert set(BASES) == set(COMMANDS)


def test_every_option_of_every_command_is_attacked():
    """Each in the fast tests, too, where every kind of value has its turn."""
    fast = [(command, name, kind) for command in COMMANDS for name, kind, _ in cases(command, few=True)]
    assert {(command, p.name) for command, p in PARAMETERS} == {(command, name) for command, name, _ in fast}
    assert {kind for *_, kind in fast} >= set(VALUES)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_value_is_used_or_refused(command: str, world: World):
    complaints = attacked(command, world, few=True)
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_value_is_used_or_refused_for_every_option(command: str, world: World):
    complaints = attacked(command, world, few=False)
    assert not complaints, "\n".join(complaints)
