from __future__ import annotations

from medssl.experiments.benchmark.board import collect, markdown
from medssl.experiments.benchmark.figure import trade_off
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
    result(
        "l1",
        0,
        0,
        h=numbers(4, 0.5),
        **{"age oracle": numbers(0, 0.1)},
        constant=numbers(9, 0.1),
        untrained=numbers(7, 0.4),
    ),
    result("l1", 0, 1, h=numbers(6, 0.5), constant=numbers(9, 0.1), untrained=numbers(8, 0.4)),
    result("l1", 1, 0, h=numbers(8, 0.5), constant=numbers(11, 0.1), untrained=numbers(9, 0.4)),
    result("L_exp", 0, 0, h=numbers(5, 0.4), z=numbers(5, 0.2)),
    result("L_exp + FairKL", 0, 0, h=numbers(5, 0.3)),
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


def test_values_below_the_constant_row_of_their_own_fold_are_counted():
    assert line("L_exp", "z")["better"] == 1
    assert line("l1", "h")["better"] == 1  # 3.2 and 4.9 against 4.5, 6.5 against 5.5
    assert line("constant", "")["better"] == 0
    assert "| 1 of 3 |" in markdown(collect(RESULTS), "Toy")


def test_a_training_that_stopped_is_counted_and_not_averaged():
    assert line("L_exp", "h")["failed"] == 1
    assert line("L_exp", "h")["n"] == 1
    assert "1 of 1 (1 stopped)" in markdown(collect(RESULTS), "Toy")


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
    assert {"constant", "age oracle (MAE 0)"} <= texts
    assert any(text.startswith("L_c ") and text.endswith("(constant)") for text in texts)
    assert {text.get_text() for text in fig.legends[0].get_texts()} >= {"l1", "L_exp", "z", "open: with FairKL"}


def test_a_constant_that_guesses_no_site_has_no_curve_of_its_own():
    """Its L_c is 0; the other curves stay."""
    lines = collect([result("l1", 0, 0, h=numbers(4, 0.5), constant=numbers(9, 0.0))])
    texts = [text.get_text() for text in trade_off(lines, "challenge", "Toy").axes[0].texts]
    assert any(text.startswith("L_c ") for text in texts)
    assert not any(text.endswith("(constant)") for text in texts)


def test_names_of_references_do_not_cover_each_other():
    crowd = {f"raw input{end}": numbers(9 + 0.01 * k, 0.1) for k, end in enumerate(("", ", ComBat", ", residuals"))}
    fig = trade_off(
        collect([result("l1", 0, 0, h=numbers(4, 0.5), constant=numbers(9, 0.1), **crowd)]), "challenge", "Toy"
    )
    fig.draw_without_rendering()
    names = [t for t in fig.axes[0].texts if t.get_text() in {"constant", *crowd}]
    boxes = [t.get_window_extent() for t in names]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_every_encoder_has_its_panel():
    fig = trade_off(
        collect([*RESULTS, *({**r, "cell": r["cell"] | {"encoder": "cnn"}} for r in RESULTS)]), "challenge", "T"
    )
    assert [axes.get_title(loc="left") for axes in fig.axes] == ["T, mlp", "cnn"]
    assert fig.axes[0].get_ylim() == fig.axes[1].get_ylim()
    assert figure_bytes(fig, "png")[:4] == b"\x89PNG"


def test_a_title_is_text_in_the_table_and_no_mathematics_in_the_figure():
    title = r"Costs $x^{1}$ | <b>\frac</b>"
    assert markdown(collect(RESULTS), title).splitlines()[0] == r"## Costs \$x^{1}\$ \| &lt;b&gt;\\frac&lt;/b&gt;"
    fig = trade_off(collect(RESULTS), "challenge", "Costs $\\frac{")
    fig.draw_without_rendering()
    assert fig.axes[0].get_title(loc="left").startswith(r"Costs \$/frac{")
