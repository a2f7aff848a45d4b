"""Every option of every command is given every odd value: it is used, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

import pytest
import typer

from medssl import cli
from tests.attacks.world import Told, World, medssl

pytestmark = pytest.mark.slow

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
    "device": "/dev/null",
    "zero device": "/dev/full",
    "scan": "cohort/images/sub-0001_T1w.nii.gz",
    "yaml": "my.yaml",
    "markup": "[red]<b>{{x}}%s%n",
}
FEW = 4


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


def cases(command: str, few: bool) -> Iterator[tuple[str, list[str]]]:
    """What is attacked, and the arguments that do it."""
    base, values = list(BASES[command]), sorted(VALUES)
    for parameter in COMMANDS[command].params:
        kinds = values
        if few:
            start = crc32(f"{command} {parameter.name}".encode()) % len(values)
            kinds = (values + values)[start : start + FEW]
        if parameter.param_type_name == "option":
            if parameter.is_flag or parameter.name == "help":
                continue
            for kind in kinds:
                yield f"{parameter.opts[0]} [{kind}]", [*base, parameter.opts[0], VALUES[kind]]
        else:
            for kind in kinds:
                yield f"{parameter.name} [{kind}]", [VALUES[kind], *base[1:]]


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
    for name, arguments in list(cases(command, few)):
        world.restore()
        told = medssl(*command.split(), *arguments)
        found = complaint(told)
        if found:
            bad.append(f"{command} {name}: {found}: {told.status} {(told.err or told.out)[-400:]!r}")
    return bad


def test_every_command_has_a_base():
    """A new command is attacked, or this fails."""
    assert set(BASES) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_value_is_used_or_refused(command: str, world: World):
    complaints = attacked(command, world, few=True)
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_value_is_used_or_refused_for_every_option(command: str, world: World):
    complaints = attacked(command, world, few=False)
    assert not complaints, "\n".join(complaints)
