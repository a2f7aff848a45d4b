from __future__ import annotations

from medssl.benchmark.board import collect, markdown
from medssl.benchmark.figure import trade_off
from medssl.report.figures import figure_bytes


def result(row: str, fold: int, seed: int, **scores):
    cell = {"row": row, "encoder": "mlp", "design": "challenge", "fold": fold, "seed": seed}
    return {"cell": cell, "scores": scores, "seconds": 1.0}


def numbers(mae: float, bacc: float):
    return {
        "mae_internal": mae,
        "mae_external": mae,
        "rmse_external": mae,
        "r2_external": 0.5,
        "site_bacc": bacc,
        "challenge": bacc**0.3 * mae,
    }


RESULTS = [
    result("l1", 0, 0, h=numbers(4, 0.5), constant=numbers(9, 0.1), untrained=numbers(7, 0.4)),
    result("l1", 0, 1, h=numbers(6, 0.5), constant=numbers(9, 0.1), untrained=numbers(8, 0.4)),
    result("l1", 1, 0, h=numbers(8, 0.5), constant=numbers(11, 0.1), untrained=numbers(9, 0.4)),
    result("L_exp", 0, 0, h=numbers(5, 0.4), z=numbers(5, 0.2)),
    {**result("L_exp", 1, 0), "stopped": "the loss is nan"},
]


def line(row: str, features: str):
    (found,) = [x for x in collect(RESULTS) if x["row"] == row and x["features"] == features]
    return found


def test_means_go_over_folds_and_seeds_and_a_folds_reference_counts_once():
    assert line("l1", "h")["mae_external"] == {"mean": 6.0, "sd": 2.0}
    assert line("l1", "h")["n"] == 3
    assert line("constant", "")["mae_external"]["mean"] == 10.0
    assert line("constant", "")["n"] == 2
    assert line("untrained", "h")["n"] == 3
    assert line("L_exp", "z")["mae_external"] == {"mean": 5.0, "sd": None}


def test_a_training_that_stopped_is_counted_and_not_averaged():
    assert line("L_exp", "h")["failed"] == 1
    assert line("L_exp", "h")["n"] == 1
    assert "1 (1 stopped)" in markdown(collect(RESULTS), "Toy")


def test_the_table_is_sorted_by_the_challenge_score_with_references_in_place():
    text = markdown(collect(RESULTS), "Toy", ["a note"])
    order = [text.index(name) for name in ("| L_exp | z", "| L_exp | h", "| constant |", "| untrained |")]
    assert order[0] < order[1]
    assert "10.00 ± 1.41" in text
    assert text.rstrip().endswith("a note.")
    rows = [
        cells for cells in (row.split("|") for row in text.splitlines()) if len(cells) > 8 and "L_c" not in cells[4]
    ]
    scores = [float(cells[4].split("±")[0]) for cells in rows if cells[4].strip()[:1].isdigit()]
    assert scores == sorted(scores)


def test_the_figure_shows_a_point_per_row_and_the_corners():
    fig = trade_off(collect(RESULTS), "challenge", "Toy")
    (axes,) = fig.axes
    texts = {text.get_text() for text in axes.texts}
    assert "constant" in texts
    assert any(text.startswith("L_c ") for text in texts)
    assert {text.get_text() for text in fig.legends[0].get_texts()} >= {"l1", "L_exp"}
    assert figure_bytes(fig, "png")[:4] == b"\x89PNG"
