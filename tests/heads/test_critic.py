from __future__ import annotations

import pytest
import torch

from medssl.errors import RecipeError
from medssl.heads import Critic
from medssl.heads.critic import SpectralConv3d, SpectralLinear, spectral


def critic(**changes):
    torch.manual_seed(0)
    return Critic(**{"channels": 1, "shape": (20, 24, 17), "latent": 5, "width": 4, "hidden": 8, **changes})


def pair(n=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 1, 20, 24, 17, generator=generator), torch.randn(n, 5, generator=generator)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3, 3), (6, 40), (40, 6), (1, 9)])
def test_spectral_norm_of_the_result_is_one(shape):
    weight = torch.randn(shape) * 3
    assert torch.linalg.matrix_norm(spectral(weight).flatten(1), 2).item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(spectral(torch.zeros(shape))).all()


def test_gradient_of_the_normalised_weight_is_right():
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    expected = weight / torch.linalg.matrix_norm(weight, 2)
    direction = torch.randn(3, 5, dtype=torch.float64)
    (want,) = torch.autograd.grad((expected * direction).sum(), weight)
    (have,) = torch.autograd.grad((spectral(weight) * direction).sum(), weight)
    torch.testing.assert_close(have, want)
    assert torch.autograd.gradcheck(spectral, weight)
    assert torch.autograd.gradgradcheck(spectral, weight, atol=1e-4)


def test_logits_have_one_number_per_pair_and_every_parameter_gets_gradient():
    head = critic()
    out = head(*pair())
    assert out.shape == (3,)
    torch.nn.functional.softplus(out).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_both_members_of_the_pair_matter():
    head = critic()
    x, z = pair()
    assert not torch.allclose(head(x, z), head(x.flip(0), z))
    assert not torch.allclose(head(x, z), head(x, z.flip(0)))


def test_a_judgement_depends_on_its_own_pair_only_and_moves_no_buffer():
    head = critic().train()
    x, z = pair()
    assert list(head.buffers()) == []
    torch.testing.assert_close(head(x, z)[1:2], head(x[1:2], z[1:2]), rtol=1e-4, atol=1e-6)
    assert torch.equal(head(x, z), head(x, z))


def test_every_layer_is_spectral_and_there_is_no_batch_norm():
    kinds = {type(m) for m in critic().modules() if list(m.parameters(recurse=False))}
    assert kinds == {SpectralConv3d, SpectralLinear}


def test_weights_that_are_not_finite_give_logits_that_are_not_finite():
    head, (x, z) = critic(), pair()
    with torch.no_grad():
        head.joint[1].weight[0, 0] = float("nan")
    assert head(x, z).isnan().all()


def test_scaling_the_weights_changes_nothing():
    head, (x, z) = critic(), pair()
    before = head(x, z)
    with torch.no_grad():
        for m in head.modules():
            if isinstance(m, (SpectralConv3d, SpectralLinear)):
                m.weight.mul_(7)
    torch.testing.assert_close(head(x, z), before, rtol=1e-4, atol=1e-6)


def test_bf16_is_finite_and_close():
    head, (x, z) = critic(), pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(x, z)
    torch.testing.assert_close(out.float(), head(x, z), rtol=0.05, atol=0.05)


def test_without_latent_it_judges_volumes_alone():
    head = critic(latent=0)
    assert head(pair()[0]).shape == (3,)


def test_wrong_inputs_name_expected_and_given():
    head, (x, z) = critic(), pair()
    with pytest.raises(RecipeError, match=r"volumes \(N, 1, 20, 24, 17\), but got \(3, 1, 20, 24, 16\)"):
        head(x[..., :-1], z)
    with pytest.raises(RecipeError, match=r"latents \(N, 5\), but got \(3, 4\)"):
        head(x, z[:, :-1])
    with pytest.raises(RecipeError, match=r"latents \(N, 5\), but got None"):
        head(x)
    with pytest.raises(RecipeError, match="at least 4 voxels a side"):
        critic(shape=(3, 8, 8))
