from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medssl.errors import RecipeError
from medssl.methods.cluster import deepcluster
from medssl.types import Batch, Progress
from tests.methods.bench import BATCH, SCANS, START, Bench


def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clustering by the first feature: the lower half is 0, the upper half 1."""

    def cluster(features, k, pca, seed):
        return (features[:, 0] > np.median(features[:, 0])).astype(np.int64), {}

    monkeypatch.setattr(deepcluster, "cluster", cluster)


def test_labels_belong_to_rows_of_the_cohort_not_to_places_in_a_batch(monkeypatch: pytest.MonkeyPatch):
    halves(monkeypatch)
    bench = Bench("deepcluster", clusters=2)
    order = torch.randperm(SCANS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = bench.encoder(bench.x).pooled
    bench.method.before_epoch(lambda f: (order, f(bench.x[order]).detach()), START)
    expected = (features[:, 0] > features[:, 0].median()).long()
    agree = (bench.method.assigned.labels == expected).float().mean()
    assert float(agree) >= 1 - 1 / SCANS  # the median row itself may fall on either side

    rows = [7, 3, 19, 0, 11, 5, 2, 23]
    batch = bench.batch(rows)
    out = bench.method.step(batch, START)
    h = bench.encoder(torch.cat(batch.views)).pooled
    logits = bench.method.classifier(h)
    labels = bench.method.assigned.labels[torch.tensor(rows)]
    assert float(out.losses["loss"].detach()) == pytest.approx(float(F.cross_entropy(logits, labels).detach()))


def test_every_cluster_is_drawn_equally_often():
    bench = Bench("deepcluster", clusters=3)
    assert bench.method.scan_weights() is None, "before the first clustering every scan counts the same"
    bench.start()
    weights, labels = bench.method.scan_weights(), bench.method.assigned.labels
    shares = [float(weights[labels == k].sum() / weights.sum()) for k in labels.unique()]
    assert shares == pytest.approx([1 / len(shares)] * len(shares))
    assert len(shares) > 1


def test_rows_outside_the_training_are_never_drawn_and_have_no_label():
    bench = Bench("deepcluster", clusters=2)
    train = torch.arange(0, SCANS, 2)
    bench.method.before_epoch(lambda f: (train, f(bench.x[train]).detach()), START)
    assert (bench.method.assigned.labels[1::2] == -1).all()
    assert (bench.method.scan_weights()[1::2] == 0).all()
    assert (bench.method.scan_weights()[::2] > 0).all()


def test_the_classifier_starts_anew_after_every_clustering_and_knows_nothing():
    bench = Bench("deepcluster", clusters=4, every=1)
    bench.start()
    first = bench.method.classifier.weight.detach().clone()
    loss = float(bench.method.step(bench.batch(list(range(BATCH))), START).losses["loss"].detach())
    assert loss == pytest.approx(math.log(4), abs=0.05)
    assert bench.method.chance == pytest.approx(math.log(4))
    bench.train(2)
    bench.method.before_epoch(bench.embed, Progress(3, 9, 1, 3))
    assert not torch.equal(bench.method.classifier.weight, first)
    assert (bench.method.classifier.bias == 0).all()


def test_the_new_classifier_is_named_so_that_its_optimiser_starts_anew():
    bench = Bench("deepcluster", clusters=2, every=2)
    assert bench.method.before_epoch(bench.embed, START) == (bench.method.classifier,)
    assert bench.method.before_epoch(bench.embed, Progress(3, 9, 1, 3)) is None


def test_between_clusterings_nothing_moves():
    bench = Bench("deepcluster", clusters=2, every=2)
    bench.start()
    before = {k: v.clone() for k, v in bench.method.state_dict().items()}
    bench.method.before_epoch(bench.embed, Progress(3, 9, 1, 3))
    assert all(torch.equal(v, before[k]) for k, v in bench.method.state_dict().items())
    bench.method.before_epoch(bench.embed, Progress(6, 9, 2, 3))
    assert int(bench.method.assigned.updates) == 2


def test_the_same_seed_clusters_the_same_way():
    first, second = Bench("deepcluster", clusters=3), Bench("deepcluster", clusters=3)
    first.start(), second.start()
    assert torch.equal(first.method.assigned.labels, second.method.assigned.labels)


def test_every_clustering_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch):
    seeds = []

    def cluster(features, k, pca, seed):
        seeds.append(seed)
        return np.arange(len(features)) % k, {}

    monkeypatch.setattr(deepcluster, "cluster", cluster)
    bench = Bench("deepcluster", clusters=2, every=2)
    for epoch in range(5):
        bench.method.before_epoch(bench.embed, Progress(3 * epoch, 15, epoch, 5))
    assert seeds == [0, 2, 4]


def test_the_agreement_with_the_clustering_before_is_kept(monkeypatch: pytest.MonkeyPatch):
    halves(monkeypatch)
    bench = Bench("deepcluster", clusters=2)
    bench.start()
    assert float(bench.method.agreement) == 0.0
    bench.start()
    assert float(bench.method.agreement) == pytest.approx(1.0)
    out = bench.method.step(bench.batch(list(range(BATCH))), START)
    assert float(out.log["agreement"]) == pytest.approx(1.0)
    assert float(out.log["largest_cluster"]) == pytest.approx(0.5, abs=0.05)


def test_a_scan_without_a_label_costs_nothing():
    bench = Bench("deepcluster", clusters=2)
    bench.start()
    bench.method.assigned.labels.fill_(-1)
    loss = bench.method.step(bench.batch(list(range(BATCH))), START).losses["loss"]
    assert float(loss.detach()) == 0.0
    loss.backward()


@pytest.mark.parametrize("clusters", [0, 1, SCANS + 1, -3])
def test_an_impossible_number_of_clusters_is_refused(clusters):
    with pytest.raises(RecipeError, match=f"method.clusters is {clusters}"):
        Bench("deepcluster", clusters=clusters)


def test_without_a_number_there_is_a_twentieth_of_the_scans():
    bench = Bench("deepcluster")
    assert bench.method.k == 2
    assert isinstance(bench.batch([0, 1]), Batch)
