"""The one module of ranges, and that there is no other."""

from __future__ import annotations

import ast
import doctest
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from medssl import checks
from medssl.checks import (
    Count,
    Flag,
    Fraction,
    Interval,
    Listed,
    Pair,
    Positive,
    Rule,
    Share,
    Sizes,
    Text,
    check,
    check_arguments,
    check_fields,
    checked,
    declared,
    describe,
    is_ranged,
    near,
    nearest,
    rules,
    short,
    words,
)
from medssl.errors import RecipeError, UserError

UNIT = Annotated[tuple[float, float], Pair(Interval(0, 1))]
ROOT = Path(__file__).resolve().parents[2] / "medssl"


def test_its_examples_hold() -> None:
    for module in (checks, rules, words):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("interval", "kind", "words"),
    [
        (Interval(), float, "a finite number"),
        (Interval(0, above=True), float, "a number above 0"),
        (Interval(0), float, "a number of at least 0"),
        (Interval(high=3), float, "a number of at most 3"),
        (Interval(high=3, below=True), float, "a number below 3"),
        (Interval(0, 1, below=True), float, "a number from 0 to below 1"),
        (Interval(0, 1, above=True, below=True), float, "a number above 0 and below 1"),
        (Interval(0, 0.25, above=True), float, "a number above 0 and at most 0.25"),
        (Interval(1, 2**63 - 1), int, "a whole number from 1 to 9223372036854775807"),
        (Interval(-2, 2, unit="mm"), float, "a number from -2 to 2 (mm)"),
    ],
)
def test_an_interval_says_what_it_allows(interval: Interval, kind: type, words: str) -> None:
    assert interval.words(kind) == words


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (Positive, [1e-300, 1, 1e300], [0, -1, math.inf, math.nan, True, "1", None, 10**400]),
        (Share, [0, 0.5, math.nextafter(1, 0)], [1, -1e-9, 1.5]),
        (Fraction, [0, 1], [math.nextafter(1, 2), -1e-12]),
        (Count, [1, 3.0, 10**9, np.int64(4)], [0, 1.5, 10**9 + 1, np.nan, np.True_, "3", [3]]),
        (Flag, [True, False], [0, 1, "yes", None, np.True_]),
        (Sizes, [[1], (16, 8), [16384] * 16], [[], "12", [0], [1] * 17, {"a": 1}, {1, 2}, [True], 5]),
        (Annotated[str, Text("a name", 5)], ["site"], ["", " ", "sites!", "a\nb", "a\rb", 3, None, b"a"]),
        (
            UNIT,
            [0.5, [0, 1], (0.2, 0.2)],
            [[1, 0], [0], [0, 1, 1], "a", 2],
        ),
        (Annotated[tuple[int, ...], Listed(1, 3, unique=True, one=True)], [0, [2, 1]], [[1, 1], [], [0.5], True]),
        (Count | Literal["auto"], [1, "auto"], ["autp", 0, None]),
    ],
)
def test_values_inside_are_taken_and_others_are_not(kind: Any, inside: list[Any], outside: list[Any]) -> None:
    for value in inside:
        check("x", value, kind)
    for value in outside:
        with pytest.raises(UserError, match=r"^x(\.\d)? is .*, but it must be "):
            check("x", value, kind)


def test_numbers_come_back_in_their_kind_and_one_value_for_all() -> None:
    assert [type(check("x", 3.0, Count)), type(check("x", 3, Positive))] == [int, float]
    assert check("x", 4, checks.Voxels) == (4, 4, 4)
    assert check("x", 0.5, UNIT) == (0.5, 0.5)
    assert type(check("x", 3, checks.Number)) is int


def test_a_value_in_a_list_is_named_by_its_place() -> None:
    with pytest.raises(RecipeError, match=r"^method\.projector\.1 is -1, but it must be a whole number"):
        check("method.projector", [8, -1], Sizes, RecipeError)


def test_a_choice_names_the_nearest_and_alternatives_are_joined() -> None:
    with pytest.raises(UserError, match=r"it must be 'batch', 'group' or 'none'; did you mean 'group'\?"):
        check("norm", "gruop", Literal["batch", "group", "none"])
    with pytest.raises(UserError, match=r"it must be a whole number from 1 to 1000000000, or 'auto'$"):
        check("devices", True, Count | Literal["auto"])


def test_an_unknown_argument_is_named_with_the_nearest_known_one() -> None:
    known = {"temperature": Positive}
    assert check_arguments("method", "simclr", known, {"temperature": 1}) == {"temperature": 1.0}
    with pytest.raises(UserError, match=r"method\.temprature is no argument of 'simclr'; did you mean 'method\.temper"):
        check_arguments("method", "simclr", known, {"temprature": 1})


@dataclass(frozen=True)
class Spread:
    width: UNIT = (0.0, 1.0)
    count: Count = 1


def test_fields_of_a_record_are_brought_into_their_types() -> None:
    spread = Spread(0.5, 2.0)  # type: ignore[arg-type]
    check_fields(spread, "spread")
    assert spread == Spread((0.5, 0.5), 2)
    with pytest.raises(UserError, match=r"^spread\.count is 0"):
        check_fields(Spread(count=0), "spread")


def test_a_decorated_function_checks_what_it_is_given_and_no_more() -> None:
    @checked
    def run(path: str, *, jobs: Count = 1, name: str | None = None) -> tuple[Any, ...]:
        return path, jobs, name

    assert run("a", jobs=2.0, name=None) == ("a", 2, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^jobs is 0, but it must be"):
        run("a", jobs=0)


def test_pydantic_reads_the_same_types() -> None:
    class Options(BaseModel):
        lr: Positive = 1.0
        sizes: Sizes = (1,)

    assert Options(lr=2, sizes=[3]).model_dump_json() == '{"lr":2.0,"sizes":[3]}'
    with pytest.raises(ValueError, match="it must be a number above 0"):
        Options(lr=-1)


def test_only_types_that_limit_their_values_count_as_ranged() -> None:
    for kind in (Count, Count | None, Sizes, Flag, Literal["a"], Annotated[str, Text()]):
        assert is_ranged(kind), kind
        assert describe(kind)
    for kind in (
        int,
        float,
        str,
        bool,
        Any,
        int | None,
        Sequence[int],
        Annotated[Sequence[int], Listed()],
        list[Count],
    ):
        assert not is_ranged(kind), kind


def test_every_type_that_is_offered_is_ranged_and_has_words() -> None:
    offered = {name: kind for name, kind in vars(checks).items() if hasattr(kind, "__metadata__")}
    assert len(offered) > 20
    for name, kind in offered.items():
        assert is_ranged(kind), name
        assert any(isinstance(mark, Rule) for mark in kind.__metadata__)


def test_declared_types_of_functions_classes_and_records() -> None:
    class Method:
        def __init__(self, encoder: Any, *, rate: Share = 0.5) -> None: ...

    assert declared(Method) == {"rate": Share}
    assert list(declared(Spread)) == ["width", "count"]


def test_the_nearest_name_ignores_capitals_and_long_lists_are_cut() -> None:
    assert near("BASELINE", ["baseline", "m12"]) == "baseline"
    assert near("zzz", ["baseline"]) is None
    assert nearest("c" * 10**6, [f"column{k}" for k in range(100)]).endswith("and 80 more")
    assert nearest(3, []) == "known: none"
    assert nearest(10**5000, ["a"]) == "known: a"


def test_a_value_is_shown_short_and_on_one_line() -> None:
    for value in ("x" * 10**6, 10**5000, [list(range(10**4))] * 9, {"a": "b" * 999}, "two\nlines"):
        assert len(short(value)) <= 100
        assert "\n" not in short(value)


def test_a_value_that_cannot_be_shown_is_named_by_its_type() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise OSError

    assert "Broken" in short(Broken())


def test_nobody_else_compares_names() -> None:
    """The one exception matches ids of people in two spellings, which is no mistyped name."""
    own = {"checks/words.py", "data/sources/match.py"}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert "difflib" not in names or str(path.relative_to(ROOT)) in own, path
