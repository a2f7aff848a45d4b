from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from medssl.errors import UserError
from medssl.kernels import box, categorical, delta, product, rbf
from medssl.losses.contrastive import nt_xent
from medssl.losses.pairs import cosine, label_weights, labelled_pairs, not_self, queue_pairs, same, tile, view_masks
from tests.oracles.batches import embeddings

NAN = float("nan")


def test_cosine_is_computed_in_float32_under_autocast():
    a, b = embeddings(4, dtype=torch.float32) * 3, embeddings(6, seed=1, dtype=torch.float32)
    plain = cosine(a, b, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cosine(a, b, 0.1)
        half = cosine(a.bfloat16(), b.bfloat16(), 0.1)
    assert torch.equal(plain, inside)
    assert half.dtype == torch.float32
    torch.testing.assert_close(plain[1, 2], torch.cosine_similarity(a[1], b[2], dim=0) / 0.1)
    with pytest.raises(UserError, match="temperature"):
        cosine(a, b, 0.0)


def test_cosine_of_a_zero_row_has_finite_gradient():
    z = torch.zeros(3, 4, requires_grad=True)
    cosine(z, z, 0.1).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_rows_are_stacked_view_major():
    assert tile(torch.tensor([7, 8]), 3).tolist() == [7, 8, 7, 8, 7, 8]
    assert tile(torch.tensor([[1, 2], [3, 4]]), 2).tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]


def test_own_column_is_the_only_invalid_one():
    mask = not_self(3, 5)
    assert (~mask).nonzero().tolist() == [[0, 0], [1, 1], [2, 2]]


def test_some_anchors_have_the_rows_of_all():
    scan, subject = tile(torch.tensor([4, 9, 2]), 2), tile(torch.tensor([0, 1, 0]), 2)
    some = torch.tensor([5, 0, 3])
    assert torch.equal(not_self(3, 6, rows_N=some), not_self(6, 6)[some])
    for relatives in ("positive", "ignore", "negative"):
        whole = view_masks(scan, scan, subject, subject, relatives=relatives)
        part = view_masks(scan[some], scan, subject[some], subject, relatives=relatives, rows_N=some)
        assert all(torch.equal(ours, all_rows[some]) for ours, all_rows in zip(part, whole, strict=True))
    labels, kernels = {"age": torch.tensor([20.0, NAN, 30.0] * 2)}, {"age": rbf(5.0)}
    pairs = labelled_pairs(kernels, labels, labels, subject, subject, "drop")
    logw, valid, _ = label_weights(kernels, labels, labels, same(subject, subject), "drop")
    assert torch.equal(pairs(some)[0], logw[some])
    assert torch.equal(pairs(some)[1], (valid & not_self(6, 6))[some])


def test_positives_are_the_other_views_of_the_scan():
    scan = tile(torch.tensor([4, 9, 2]), 2)
    pos, valid = view_masks(scan, scan, scan, scan)
    assert pos.nonzero().tolist() == [[0, 3], [1, 4], [2, 5], [3, 0], [4, 1], [5, 2]]
    assert torch.equal(valid, not_self(6, 6))


@pytest.mark.parametrize("views", [3, 4])
def test_every_other_view_is_a_positive(views):
    scan = tile(torch.arange(5), views)
    pos, _ = view_masks(scan, scan, scan, scan)
    assert (pos.sum(1) == views - 1).all()


def test_relatives_are_positives_ignored_or_negatives():
    scan, subject = tile(torch.tensor([0, 1, 2]), 2), tile(torch.tensor([5, 5, 6]), 2)
    outcome = {}
    for relatives in ("positive", "ignore", "negative"):
        pos, valid = view_masks(scan, scan, subject, subject, relatives=relatives)
        outcome[relatives] = (bool(pos[0, 1]), bool(valid[0, 1]), bool(pos[0, 3]), bool(valid[0, 3]))
    assert outcome == {
        "positive": (True, True, True, True),
        "ignore": (False, False, True, True),
        "negative": (False, True, True, True),
    }
    with pytest.raises(UserError, match="relatives"):
        view_masks(scan, scan, subject, subject, relatives="friends")


def test_columns_of_other_processes_follow_the_own_rows():
    scan_N = tile(torch.tensor([0, 1]), 2)
    scan_M = torch.cat([scan_N, tile(torch.tensor([2, 3]), 2)])
    pos, valid = view_masks(scan_N, scan_M, scan_N, scan_M)
    assert pos.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
    assert valid.sum().item() == 4 * 8 - 4
    _, bank_valid = view_masks(scan_N, scan_M, scan_N, scan_M, own_rows=False)
    assert bank_valid.all()


def test_the_first_column_of_a_queue_is_the_positive_and_the_loss_is_that_of_moco():
    q, k, queue = embeddings(3), embeddings(3, seed=1), embeddings(5, seed=2)
    pairs = queue_pairs(
        q,
        k,
        queue,
        subject_N=torch.tensor([0, 1, 2]),
        subject_K=torch.tensor([7, 8, 9, 10, 11]),
        filled_K=torch.ones(5, dtype=torch.bool),
        temperature=0.2,
    )
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.2
    torch.testing.assert_close(pairs.sim_NM, logits)
    assert pairs.pos_NM.nonzero().tolist() == [[0, 0], [1, 0], [2, 0]]
    torch.testing.assert_close(nt_xent(*pairs), F.cross_entropy(logits, torch.zeros(3, dtype=torch.int64)))


def test_keys_of_the_own_subject_and_empty_rows_of_a_queue_are_never_used():
    q, k, queue = (x.requires_grad_() for x in (embeddings(2), embeddings(2, seed=1), embeddings(4, seed=2)))
    given = {
        "subject_N": torch.tensor([0, 1]),
        "subject_K": torch.tensor([1, 0, 5, -1]),
        "filled_K": torch.tensor([True, True, True, False]),
        "temperature": 0.2,
    }
    pairs = queue_pairs(q, k, queue, **given)
    assert pairs.valid_NM.tolist() == [[True, True, False, True, False], [True, False, True, True, False]]
    changed = torch.cat([queue[:3], -queue[3:]]).detach()
    torch.testing.assert_close(nt_xent(*queue_pairs(q, k, changed, **given)), nt_xent(*pairs))
    nt_xent(*pairs).backward()
    assert q.grad is not None
    assert k.grad is None
    assert queue.grad is None
    positive = queue_pairs(q, k, queue, **given, relatives="positive")
    assert positive.pos_NM.tolist() == [[True, False, True, False, False], [True, True, False, False, False]]


def test_queue_pairs_are_computed_in_float32_under_autocast():
    z, queue = embeddings(3, dtype=torch.float32), embeddings(5, seed=2, dtype=torch.float32)
    ids = {"subject_N": torch.arange(3), "subject_K": torch.arange(5) + 9, "filled_K": torch.ones(5).bool()}
    plain = queue_pairs(z, z.flip(0), queue, **ids, temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = queue_pairs(z, z.flip(0), queue, **ids, temperature=0.1)
    assert torch.equal(plain.sim_NM, inside.sim_NM)


def test_an_empty_queue_is_refused():
    z = embeddings(2)
    with pytest.raises(UserError, match="size 0"):
        queue_pairs(
            z,
            z,
            z[:0],
            subject_N=torch.arange(2),
            subject_K=torch.arange(0),
            filled_K=torch.ones(0, dtype=torch.bool),
            temperature=0.1,
        )


# labels ---------------------------------------------------------------------------------------------------


def one_label(y, kernel=None, subject=None, **options):
    subject = torch.arange(len(y)) if subject is None else subject
    return label_weights({"age": kernel or rbf(5.0)}, {"age": y}, {"age": y}, same(subject, subject), **options)


def test_known_labels_have_the_weight_and_the_distance_of_the_kernel():
    y = torch.tensor([20.0, 25.0, 40.0])
    logw, valid, distance = one_label(y)
    torch.testing.assert_close(logw, -((y[:, None] - y) ** 2) / 50)
    torch.testing.assert_close(distance, (y[:, None] - y).abs())
    assert valid.all()


def test_policy_self_gives_a_missing_label_weight_one_for_the_same_subject_and_none_else():
    y = tile(torch.tensor([20.0, NAN]), 2)
    logw, valid, distance = one_label(y, subject=tile(torch.tensor([0, 1]), 2))
    assert valid.all()
    assert logw[1].tolist() == [-1e9, 0.0, -1e9, 0.0]
    assert logw[0].tolist() == [0.0, -1e9, 0.0, -1e9]
    assert distance[1].tolist() == [math.inf, 0.0, math.inf, 0.0]


def test_policy_drop_removes_a_row_without_label_on_both_sides():
    y = tile(torch.tensor([20.0, NAN]), 2)
    _, valid, _ = one_label(y, subject=tile(torch.tensor([0, 1]), 2), policy="drop")
    assert valid.tolist() == [
        [True, False, True, False],
        [False] * 4,
        [True, False, True, False],
        [False] * 4,
    ]


def test_two_visits_of_a_person_weigh_what_their_labels_say_unless_asked_otherwise():
    y, subject = torch.tensor([20.0, 30.0]), torch.tensor([3, 3])
    assert one_label(y, subject=subject)[0][0, 1].item() == -2.0
    logw, _, distance = one_label(y, box(3.0), subject, relatives="one")
    assert logw.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert distance[0, 1] == 0
    missing = torch.tensor([20.0, NAN])
    assert one_label(missing, subject=subject)[0].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_factor_missing_on_either_side_is_left_out_of_the_product():
    age = torch.tensor([20.0, 25.0, NAN, NAN])
    sex = torch.tensor([0, 1, 0, -1])
    labels, kernels = {"age": age, "sex": sex}, {"age": rbf(5.0), "sex": categorical()}
    logw, valid, distance = label_weights(kernels, labels, labels, same(torch.arange(4), torch.arange(4)))
    assert logw[0].tolist() == [0.0, -1e9, 0.0, -1e9]  # itself; other sex; same sex and no age; nothing known
    assert logw[1, 2].item() == -1e9
    assert distance[0].tolist() == [0.0, 1e9, 0.0, math.inf]
    assert valid.all()
    dropped = label_weights(kernels, labels, labels, same(torch.arange(4), torch.arange(4)), "drop")[1]
    assert dropped.tolist() == [[True, True, True, False]] * 3 + [[False] * 4]


def test_integer_codes_of_minus_one_are_missing_and_negative_numbers_are_not():
    codes = torch.tensor([3, -1, -1])
    assert one_label(codes, delta())[0][1].tolist() == [-1e9, 0.0, -1e9]
    values = torch.tensor([-1.0, -1.0])
    assert one_label(values)[0].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    floats = torch.tensor([1.0, -1.0, NAN])
    assert one_label(floats, categorical())[0][0].tolist() == [0.0, -1e9, -1e9]


def test_a_product_kernel_reads_several_columns_with_holes():
    y = torch.tensor([[20.0, 0.0], [25.0, NAN], [NAN, NAN]])
    logw, _, _ = one_label(y, product([rbf(5.0), delta()]))
    assert logw[0].tolist() == [0.0, -0.5, -1e9]


def test_rectangular_labels_and_bad_arguments():
    y_N, y_M = torch.tensor([20.0, NAN]), torch.tensor([20.0, 25.0, NAN])
    person = same(torch.tensor([0, 1]), torch.tensor([0, 2, 1]))
    logw, _, _ = label_weights({"age": rbf(5.0)}, {"age": y_N}, {"age": y_M}, person)
    assert logw.tolist() == [[0.0, -0.5, -1e9], [-1e9, -1e9, 0.0]]
    with pytest.raises(UserError, match="'sex'"):
        label_weights({"sex": delta()}, {"age": y_N}, {"age": y_M}, person)
    with pytest.raises(UserError, match="policy"):
        label_weights({"age": rbf(5.0)}, {"age": y_N}, {"age": y_M}, person, "ignore")
    with pytest.raises(UserError, match="no kernel"):
        label_weights({}, {"age": y_N}, {"age": y_M}, person)
