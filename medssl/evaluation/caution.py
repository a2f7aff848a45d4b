"""When a score is to be read with care: limits and sentences that the scorecard, the terminal and the report share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medssl.errors import count

FEW_PEOPLE = 30
"""Below so many people a score can easily change with the people who happen to be tested."""
FEW_SITES = 6
"""Below so many unseen sites a score says little about further ones, and no interval over whole sites is given.

The percentile interval of the mean of G sites, meant to hold the truth in 95 of 100 cases, holds it in 51 (G = 2),
75 (3), 81 (4), 83 (5), 86 (6) and 90 (10) where site means are normal.
"""
SITE_DIRECTION = "closer to chance is better, and below chance is no gain"
"""How the balanced accuracy of the site is read, wherever it is shown."""
BELOW_CHANCE = (
    "fewer scans were given their right site than by guessing, which is no gain, but makes the challenge score look "
    "better than it is; with few test scans this is luck, otherwise check that no test scan took part in harmonising "
    "the features"
)
"""What a balanced accuracy of the site below chance means."""
_BY_SITES = "no interval over whole sites is given"


def guessing(chance: float | None, constant: float | None) -> float | None:
    """Balanced accuracy that guessing the site reaches; None where it is not known.

    chance: one over the number of training sites. constant: what constant features reach, which is more where the
    tests do not hold all sites.
    """
    return max(chance, constant) if chance is not None and constant is not None else chance


def clearly_below(value: float | None, interval: tuple[float, float] | None, chance: float | None) -> bool:
    """Whether a balanced accuracy lies below chance with its whole interval; without one, below half of chance."""
    if value is None or chance is None:
        return False
    return interval[1] < chance if interval is not None else value < chance / 2


def below_chance(lines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A note where rows of a scorecard read the site clearly below chance. lines: name -> its metrics and ``ci``."""
    chance = guessing(
        next((line.get("site_chance") for line in lines.values()), None), lines.get("constant", {}).get("site_bacc")
    )
    names = []
    for name, line in lines.items():
        pair = line["ci"].get("site_bacc")
        if clearly_below(line["site_bacc"], (pair[0], pair[1]) if pair else None, chance):
            names.append(name.replace("_", " "))
    return [f"site BAcc of {', '.join(names)} is clearly below chance: {BELOW_CHANCE}"] if names else []


def by_sites(sites: int) -> list[str]:
    """A note where unseen sites are too few to be drawn again as a whole; sites: how many there are."""
    if not 1 < sites < FEW_SITES:
        return []
    return [
        f"{_BY_SITES}: the {count(sites, 'unseen site')} are fewer than {FEW_SITES}, and an interval that draws so few "
        "sites again looks more certain than it is"
    ]


def is_about_few_people(note: str) -> bool:
    """Whether a note is one of ``few_people``."""
    return note.endswith(_FEW)


_FEW = f"with fewer than {FEW_PEOPLE} they easily change"


def few_people(split: str, people: int) -> list[str]:
    """A note where the age scores of a split rest on few people."""
    if not 0 < people < FEW_PEOPLE:
        return []
    return [f"the age scores of {split} rest on {count(people, 'person', 'people')}: {_FEW}"]
