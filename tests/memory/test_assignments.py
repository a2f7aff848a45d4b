from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.memory.assignments import Assignments, cluster, whiten


def blobs(per=20, centres=4, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    middle = 8 * rng.standard_normal((centres, dim))
    truth = np.repeat(np.arange(centres), per)
    return (middle[truth] + rng.standard_normal((per * centres, dim))).astype(np.float32), truth


def test_labels_start_missing_and_follow_the_rows_of_the_manifest():
    store = Assignments(6, 3)
    assert store.labels.tolist() == [-1] * 6
    store.set(torch.tensor([4, 0, 2]), torch.tensor([1, 2, 1]))
    assert store.labels.tolist() == [2, -1, 1, -1, 1, -1]
    assert store.counts.tolist() == [0, 2, 1]
    store.set(torch.tensor([2]), torch.tensor([-1]))
    assert store.labels.tolist() == [2, -1, -1, -1, 1, -1]
    assert store.counts.tolist() == [0, 1, 1]


def test_of_a_doubled_row_the_last_label_counts():
    store = Assignments(4, 3)
    store.set(torch.tensor([1, 1, 3, 1]), torch.tensor([0, 1, 0, 2]))
    assert store.labels.tolist() == [-1, 2, -1, 0]


def test_sampling_weights_draw_clusters_equally_often():
    store = Assignments(10, 4)
    store.set(torch.arange(9), torch.tensor([0] * 6 + [1] * 2 + [3]))
    weights = store.sampling_weights()
    assert weights[9] == 0
    share = torch.zeros(4).index_add(0, store.labels[:9], weights[:9] / weights.sum())
    torch.testing.assert_close(share, torch.tensor([1 / 3, 1 / 3, 0.0, 1 / 3]))


def test_the_state_comes_back_bit_for_bit():
    store, other = Assignments(5, 3), Assignments(5, 3)
    store.set(torch.arange(4), torch.tensor([0, 1, 2, 0]))
    other.load_state_dict(store.state_dict())
    assert set(store.state_dict()) == {"labels", "counts", "updates"}
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in store.state_dict().items())


def test_labels_out_of_range_are_named():
    with pytest.raises(UserError, match=r"-1\.\.2"):
        Assignments(5, 3).set(torch.arange(2), torch.tensor([0, 3]))
    with pytest.raises(UserError, match="0 rows"):
        Assignments(0, 3)


def test_whitened_features_have_unit_covariance_and_the_largest_axes():
    features, _ = blobs()
    white = whiten(features, 5)
    np.testing.assert_allclose(np.cov(white.T), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-10)
    largest = np.linalg.eigvalsh(np.cov(features.T.astype(np.float64)))[::-1][:5]
    scores = white * np.sqrt(largest)
    np.testing.assert_allclose(scores.var(0, ddof=1), largest, rtol=1e-8)
    low_rank = features[:, :2] @ np.random.default_rng(0).standard_normal((2, 9))
    assert whiten(low_rank, 5).shape == (80, 2)
    assert whiten(features[:4], 50).shape == (4, 3)


def test_clusters_find_separate_groups_and_repeat_for_a_seed():
    features, truth = blobs()
    labels, info = cluster(features, 4, pca=3, seed=0)
    again, _ = cluster(features, 4, pca=3, seed=0)
    assert np.array_equal(labels, again)
    assert labels.dtype == np.int64
    pairs = {(a, b) for a, b in zip(labels, truth, strict=True)}
    assert len(pairs) == 4
    assert info["sizes"].tolist() == [20] * 4
    assert (info["empty"], info["largest_share"], info["dims"]) == (0, 0.25, 3)
    assert info["centroids"].shape == (4, 3)


def test_order_of_the_scans_does_not_matter_to_who_belongs_together():
    features, _ = blobs()
    order = np.random.default_rng(1).permutation(80)
    labels, _ = cluster(features, 4, pca=3)
    moved, _ = cluster(features[order], 4, pca=3)
    assert np.array_equal(labels[order][:, None] == labels[order], moved[:, None] == moved)


def test_clusters_do_not_depend_on_or_move_the_global_generator():
    features, _ = blobs()
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    cluster(features, 6, pca=4)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_copies_and_constants_do_not_break_the_clustering():
    copies = np.repeat(np.eye(3), 5, axis=0)
    labels, info = cluster(copies, 5)
    assert len(set(labels)) == 3
    assert info["empty"] == 2
    labels, info = cluster(np.ones((6, 4)), 2)
    assert np.isin(labels, [0, 1]).all()
    assert np.isfinite(info["centroids"]).all()


def test_impossible_requests_are_named():
    with pytest.raises(UserError, match="k is 9"):
        cluster(np.zeros((4, 2)), 9)
    with pytest.raises(UserError, match="finite"):
        cluster(np.array([[1.0, np.nan]]), 1)
