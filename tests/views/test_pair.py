from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from medssl.errors import RecipeError, UserError
from medssl.views import MakesViews, ViewMaker, base, build_policy
from tests.ready import processes


class Scans(Dataset):
    """Six volumes through a view maker, addressed by (row, epoch)."""

    def __init__(self, maker):
        self.maker = maker
        self.volumes = torch.randn(6, 1, 10, 12, 9, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return 6

    def __getitem__(self, row):
        views, targets = self.maker(self.volumes[row], 3, row)
        return row, views, targets


def maker_of(policy="robust", **arguments):
    return ViewMaker(build_policy(policy), **arguments)


def epoch(maker, workers, order=range(6)):
    loader = DataLoader(Scans(maker), sampler=list(order), batch_size=2, num_workers=workers)
    return {
        int(row): ([v[i] for v in views], {k: t[i] for k, t in targets.items()})
        for rows, views, targets in loader
        for i, row in enumerate(rows)
    }


def assert_same(first, second):
    assert first.keys() == second.keys()
    for row in first:
        for a, b in zip(first[row][0], second[row][0], strict=True):
            assert torch.equal(a, b)
        for name in first[row][1]:
            assert torch.equal(first[row][1][name], second[row][1][name])


@pytest.mark.parametrize("policy", ["robust", "yaware"])
def test_views_are_the_same_with_and_without_workers_and_in_any_order(policy):
    maker = maker_of(policy, wants={"latent": (4,), "token_noise": (8,)}, seed=2)
    alone = epoch(maker, 0)
    assert_same(alone, epoch(maker, 2))
    assert_same(alone, epoch(maker, 0, order=[4, 0, 5, 2, 1, 3]))


@pytest.mark.parametrize("policy", ["robust", [{"crop": {}}, {"blur": {}}, {"lowres": {}}, {"bias": {}}, "zscore"]])
def test_views_are_the_same_on_any_number_of_threads(policy, brain_of):
    """A worker has one thread, and the main process may have many."""
    maker, x = maker_of(policy, n_views=6), brain_of((1, 61, 73, 61))
    alone = maker(x, 0, 0)
    torch.set_num_threads(2)
    try:
        assert_same({0: alone}, {0: maker(x, 0, 0)})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_maker_is_pickled_with_the_same_views(brain):
    maker = maker_of(n_views=3, wants={"latent": (4,)}, seed=9)
    again = pickle.loads(pickle.dumps(maker))
    assert again == maker
    assert_same({0: maker(brain, 1, 2)}, {0: again(brain, 1, 2)})


def test_a_freshly_started_process_makes_the_same_views(brain):
    maker = maker_of(wants={"latent": (4,)})
    with processes.Pool(1) as pool:  # of another interpreter than this
        views, targets = pool.apply(maker, (brain, 3, 5))
    assert_same({0: (views, targets)}, {0: maker(brain, 3, 5)})


def test_views_of_one_scan_differ_and_change_with_epoch_scan_and_seed(brain):
    maker = maker_of("yaware", n_views=3)
    (a, b, c), _ = maker(brain, 0, 0)
    others = [
        maker(brain, 1, 0)[0][0],
        maker(brain, 0, 1)[0][0],
        maker_of("yaware", seed=1)(brain, 0, 0)[0][0],
    ]
    views = [a, b, c, *others]
    assert all(not torch.equal(views[i], views[j]) for i in range(6) for j in range(i))


def test_more_views_leave_the_first_ones_as_they_are(brain):
    two, four = maker_of(n_views=2)(brain, 0, 0)[0], maker_of(n_views=4)(brain, 0, 0)[0]
    assert torch.equal(two[0], four[0])
    assert torch.equal(two[1], four[1])


@pytest.mark.parametrize("policy", ["robust", "yaware"])
def test_a_batch_has_the_views_of_its_scans_whatever_epoch_they_are_of(policy, brain_of):
    maker = maker_of(policy, n_views=3, seed=4)
    x, epochs, rows = torch.stack([brain_of(seed=s) for s in range(4)]), [0, 0, 1, 1], [5, 2, 2, 9]
    made = maker.batch(x, epochs, rows)
    assert [v.shape for v in made] == [x.shape] * 3
    for b, (epoch, row) in enumerate(zip(epochs, rows, strict=True)):
        for alone, together in zip(maker(x[b], epoch, row)[0], made, strict=True):
            assert (alone - together[b]).abs().max() < 1e-4 * (alone.max() - alone.min())


def test_without_transforms_views_equal_the_scan_in_memory_of_their_own(brain):
    first, second = maker_of("none")(brain, 0, 0)[0]
    assert torch.equal(first, brain)
    assert torch.equal(second, brain)
    first.add_(1)
    assert not torch.equal(first, brain)
    assert not torch.equal(first, second)


def test_what_was_drawn_is_json_and_replays_the_views(brain):
    maker = maker_of("yaware")
    drawn = json.loads(json.dumps(maker.draw(tuple(brain.shape), 4, 7)))
    for a, b in zip(maker.replay(brain, drawn), maker(brain, 4, 7)[0], strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UserError, match="of 1 views, but this maker has 2"):
        maker.replay(brain, drawn[:1])


def test_one_policy_per_view_is_obeyed(brain):
    maker = ViewMaker([build_policy("none"), build_policy("crop")])
    clean, cropped = maker(brain, 0, 0)[0]
    assert torch.equal(clean, brain)
    assert not torch.equal(cropped, brain)


def test_targets_have_their_shape_and_distribution(brain):
    maker = maker_of("none", wants={"latent": (3, 2000), "token_noise": (4000,)})
    _, targets = maker(brain, 0, 0)
    latent, noise = targets["latent"], targets["token_noise"]
    assert latent.shape == (3, 2000)
    assert latent.dtype == noise.dtype == torch.float32
    assert abs(latent.mean()) < 0.05
    assert abs(latent.std() - 1) < 0.05
    assert noise.shape == (4000,)
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(latent.flatten()[:4000], noise)[0, 1]) < 0.06


def test_a_target_does_not_depend_on_other_targets_or_on_the_views(brain):
    alone = maker_of("none", wants={"token_noise": (5,)})(brain, 1, 2)[1]["token_noise"]
    both = maker_of("robust", wants={"token_noise": (5,), "latent": (64,)}, n_views=3)(brain, 1, 2)[1]["token_noise"]
    assert torch.equal(alone, both)
    assert not torch.equal(alone, maker_of("none", wants={"token_noise": (5,)})(brain, 2, 2)[1]["token_noise"])


def test_a_scalar_target_is_a_tensor_without_axes(brain):
    assert maker_of("none", wants={"latent": ()})(brain, 0, 0)[1]["latent"].shape == ()


def test_no_global_random_state_is_read_or_moved(brain):
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    maker_of("yaware", wants={"latent": (4,)})(brain, 0, 0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_fits_the_protocol_and_describes_itself():
    maker = maker_of("crop", wants={"latent": (4,)}, seed=5)
    assert isinstance(maker, MakesViews)
    assert maker.shapes((1, 8, 9, 10)) == ((1, 8, 9, 10), (1, 8, 9, 10))
    described = json.loads(json.dumps(maker.to_dict()))
    rebuilt = ViewMaker(
        [build_policy(p) for p in described["policies"]],
        n_views=described["n_views"],
        wants=described["wants"],
        seed=described["seed"],
    )
    assert rebuilt.to_dict() == maker.to_dict()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"policy": build_policy("none"), "n_views": 0}, UserError, "at least 1"),
        ({"policy": build_policy("none"), "n_views": 2.0}, UserError, "whole number of views"),
        ({"policy": [build_policy("none")]}, UserError, "one policy, or one per view"),
        ({"policy": "robust"}, UserError, "build_policy makes one"),
        ({"policy": build_policy("none"), "wants": {"rotation": ()}}, RecipeError, "'rotation'"),
        ({"policy": build_policy("none"), "seed": -1}, UserError, "seed is -1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        ViewMaker(**arguments)


@pytest.mark.realdata
def test_views_of_real_scans_stay_plausible(brain):
    import os
    from pathlib import Path

    nib = pytest.importorskip("nibabel")
    folder = os.environ.get("MEDSSL_REAL_DATA")
    if not folder:
        pytest.skip("set MEDSSL_REAL_DATA to a folder with brains4mm/*.nii.gz")
    from medssl.transforms import ZScore

    for row, path in enumerate(sorted(Path(folder, "brains4mm").glob("*.nii.gz"))[::40]):
        data = torch.from_numpy(nib.load(path).get_fdata(dtype=np.float32))[None]
        x = ZScore().apply(data, {})
        for view in maker_of("robust", n_views=8)(x, 0, row)[0]:
            inside = view[view != 0]
            assert 0.1 < len(inside) / view.numel() < 0.9
            assert abs(inside.mean()) < 0.6
            assert 0.5 < inside.std() < 1.4
            assert view.abs().max() < 10


def test_a_repeated_draw_has_views_and_answers_of_its_own_alone_and_in_a_batch(brain):
    maker = maker_of("robust", n_views=2, wants={"latent": (4,)})
    draws = [maker(brain, 1, 2, repeat) for repeat in range(3)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        for view in range(2):
            assert not torch.equal(draws[a][0][view], draws[b][0][view])
        assert not torch.equal(draws[a][1]["latent"], draws[b][1]["latent"])
    together = maker.batch(torch.stack([brain] * 3), [1] * 3, [2] * 3, range(3))
    for repeat, (views, _) in enumerate(draws):
        for alone, made in zip(views, together, strict=True):
            torch.testing.assert_close(made[repeat], alone, rtol=0, atol=1e-4)


def test_answers_belong_to_their_scan_and_every_name_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(base.ANSWERS, "token_noise", base.ANSWERS["latent"])
    maker = ViewMaker(build_policy("none"), n_views=1, wants={"latent": (6,), "token_noise": (6,)}, seed=3)
    drawn = [maker.answers(epoch, scan) for epoch, scan in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(values.tolist()) for answers in drawn for values in answers.values()}) == 6
