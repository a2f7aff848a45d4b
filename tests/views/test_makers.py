"""What every view maker of the table must keep, whatever it shows."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from medssl.errors import RecipeError
from medssl.types import Shown
from medssl.views import ROLES, VIEWS, build_policy, build_views, check_views

SHAPE = (2, 12, 14, 10)
CASES = {
    "pair": {"n_views": 3},
    "multicrop": {"n_global": 2, "n_local": 3, "local_shape": [5, 6, 4]},
}
every_maker = pytest.mark.parametrize("name", VIEWS)


def maker(name: str, policy: str = "robust", seed: int = 5, **more: object):
    return build_views(Shown(name, CASES[name] | more), build_policy(policy), wants={"latent": (3,)}, seed=seed)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    coarse = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=SHAPE[1:], mode="trilinear")[0]


def same(a, b) -> bool:
    return len(a) == len(b) and all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_every_maker_has_a_case():
    assert set(CASES) == set(VIEWS)


@every_maker
def test_views_have_the_shapes_and_roles_that_are_said_before_a_scan_is_read(name, x):
    made = maker(name)
    views, answers = made(x, 1, 2)
    assert [tuple(v.shape) for v in views] == list(made.shapes(SHAPE))
    assert len(made.roles) == len(views)
    assert set(made.roles) <= set(ROLES)
    assert all(v.dtype == torch.float32 for v in views)
    assert answers["latent"].shape == (3,)


@every_maker
def test_what_was_drawn_is_what_was_applied_and_a_replay_is_exact(name, x):
    made = maker(name)
    drawn = made.draw(SHAPE, 3, 4)
    again = json.loads(json.dumps(drawn))
    assert again == drawn
    assert same(made.replay(x, again), made(x, 3, 4)[0])


@every_maker
def test_views_are_a_function_of_seed_epoch_scan_and_repeat_in_any_process(name, x):
    made, before = maker(name), x.clone()
    first = made(x, 0, 0)[0]
    assert same(pickle.loads(pickle.dumps(made))(x, 0, 0)[0], first)
    assert torch.equal(x, before), "the scan is left untouched"
    for other in (made(x, 1, 0), made(x, 0, 1), made(x, 0, 0, 1), maker(name, seed=6)(x, 0, 0)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other[0], strict=True))


@every_maker
def test_no_two_views_of_a_scan_are_the_same(name, x):
    views = maker(name)(x, 0, 0)[0]
    for k, a in enumerate(views):
        assert not any(a.shape == b.shape and torch.equal(a, b) for b in views[:k])


@every_maker
def test_a_batch_holds_the_views_of_its_scans(name, x):
    made = maker(name)
    alone = [made(x, epoch, scan, repeat)[0] for epoch, scan, repeat in ((0, 3, 0), (1, 4, 0), (1, 4, 1))]
    together = made.batch(torch.stack([x] * 3), [0, 1, 1], [3, 4, 4], [0, 0, 1])
    for v, stacked in enumerate(together):
        torch.testing.assert_close(stacked, torch.stack([views[v] for views in alone]), rtol=1e-4, atol=1e-4)


@every_maker
def test_answers_do_not_depend_on_the_views(name, x):
    made = maker(name)
    assert torch.equal(made(x, 1, 2, 3)[1]["latent"], made.answers(1, 2, 3)["latent"])
    assert torch.equal(made.answers(1, 2)["latent"], maker(name, "none").answers(1, 2)["latent"])
    assert not torch.equal(made.answers(1, 2)["latent"], made.answers(1, 2, 1)["latent"])


@every_maker
def test_a_maker_describes_itself_in_json(name):
    described = json.loads(json.dumps(maker(name).to_dict()))
    assert described["maker"] == name
    assert described["seed"] == 5


@every_maker
def test_an_answer_that_nobody_draws_is_refused(name):
    with pytest.raises(RecipeError, match=r"'colour'.*latent, token_noise"):
        build_views(Shown(name, CASES[name]), build_policy("none"), wants={"colour": ()})


@pytest.mark.parametrize(
    ("shown", "given", "words"),
    [
        (Shown("multicorp"), {}, "views.maker is 'multicorp'.*'multicrop'"),
        (Shown("multicrop", free=("n_local",)), {"n_locl": 3}, "views.n_locl.*did you mean 'views.n_local'"),
        (Shown("multicrop", free=("n_local",)), {"n_local": 99}, "views.n_local is 99.*from 0 to 32"),
        (
            Shown("multicrop", free=("n_local",)),
            {"n_global": 3},
            "n_global is fixed by the method; it leaves n_local",
        ),
        (Shown("pair", {"n_views": 2}), {"n_views": 3}, "views.n_views is fixed by the method; it leaves none"),
        (Shown("pair"), {"seed": 3}, "views.seed is no argument of 'pair'"),
    ],
)
def test_a_recipe_changes_only_what_the_method_leaves_to_it(shown, given, words):
    with pytest.raises(RecipeError, match=words):
        check_views(shown, given)


def test_a_recipe_changes_what_is_left_to_it():
    assert check_views(Shown("multicrop", {"n_local": 6}, ("n_local",)), {"n_local": 2}).arguments == {"n_local": 2}
