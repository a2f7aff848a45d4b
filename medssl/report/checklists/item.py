"""An item of a reporting checklist, and the answer that a run gives to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medssl.report.checklists.known import Known

FILLED = "filled"
PARTLY = "partly"
AFTER_SCORING = "after scoring"
AUTHORS = "for the authors"
NOT_APPLICABLE = "does not apply"
STATUSES = (FILLED, PARTLY, AFTER_SCORING, AUTHORS, NOT_APPLICABLE)


@dataclass(frozen=True)
class Fill:
    """What a run knows about an item.

    text: whole sentences, "" where it knows nothing. sources: files of the run folder that the text may be read from.
    inapplicable: the text is the reason why the item does not apply.
    """

    text: str = ""
    sources: tuple[str, ...] = ()
    inapplicable: bool = False


Filler = Callable[[Known], Fill]


@dataclass(frozen=True)
class Item:
    """One item of a published checklist.

    number, section, topic: as published. subject: what the item asks for, in our own words. question: what the authors
    are asked where the run does not know, or not all. filler: what the run knows. whole: what the filler says answers
    the item, so that no question is left. scored: the filler needs the scores of ``medssl score``. applies: "D" (only
    where a model is developed), "E" (only where one is evaluated), "D;E"; "" where the checklist makes no difference.
    """

    number: str
    section: str
    topic: str
    subject: str
    question: str
    filler: Filler | None = None
    whole: bool = False
    scored: bool = False
    applies: str = ""


def item(
    place: str,
    number: str,
    subject: str,
    question: str,
    filler: Filler | None = None,
    *,
    whole: bool = False,
    scored: bool = False,
) -> Item:
    """An item at a place "section: topic", or "section" where that has no topics."""
    section, _, topic = place.partition(": ")
    return Item(number, section, topic or section, subject, question, filler, whole, scored)


@dataclass(frozen=True)
class Answer:
    """An item with what the run says to it. asks: a question is left to the authors."""

    item: Item
    status: str
    text: str
    sources: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether the authors have something to add."""
        return self.status in (PARTLY, AUTHORS)


@dataclass(frozen=True)
class Checklist:
    """A published checklist. verified: against what the numbers were compared, and when."""

    name: str
    title: str
    citation: str
    doi: str
    verified: str
    items: tuple[Item, ...]


def answer(item: Item, known: Known) -> Answer:
    """What the run says to an item."""
    if item.filler is None:
        return Answer(item, AUTHORS, "")
    fill = item.filler(known)
    if fill.inapplicable:
        return Answer(item, NOT_APPLICABLE, fill.text)
    if fill.text:
        there = tuple(name for name in fill.sources if (known.files.path / name).is_file())
        return Answer(item, FILLED if item.whole else PARTLY, fill.text, there)
    if item.scored and known.scores is None:
        text = f"The run is not scored yet; this is filled in after: {known.command('score')}"
        return Answer(item, AFTER_SCORING, text)
    return Answer(item, AUTHORS, "")
