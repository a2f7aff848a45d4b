from __future__ import annotations

import torch

from medssl.losses.lse import leave_one_out_lse, masked_lse, prefix_lse, softmax_over

GENERATOR = 5


def numbers(rows=6, columns=9, scale=5.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(GENERATOR)
    x = scale * torch.randn(rows, columns, generator=generator, dtype=dtype)
    valid = torch.rand(rows, columns, generator=generator) > 0.3
    return x.requires_grad_(), valid


def test_masked_lse_ignores_invalid_entries_also_in_the_gradient():
    x, valid = numbers()
    y = masked_lse(x, valid)
    for i in range(len(x)):
        torch.testing.assert_close(y[i], x[i][valid[i]].exp().sum().log())
    gradient = torch.autograd.grad(y.sum(), x)[0]
    assert (gradient[~valid] == 0).all()
    torch.testing.assert_close(gradient.sum(1), torch.ones(6, dtype=torch.float64))


def test_an_empty_sum_is_the_lowest_number_with_gradient_zero():
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(2, 3, dtype=dtype, requires_grad=True)
        y = masked_lse(x, torch.zeros(2, 3, dtype=torch.bool))
        assert (y == torch.finfo(dtype).min).all()
        assert (torch.autograd.grad(y.sum(), x)[0] == 0).all()


def test_leave_one_out_equals_the_explicit_sums_and_their_gradient():
    x, valid = numbers()
    weight = torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    out = leave_one_out_lse(x, valid)
    slow = []
    for i in range(6):
        for k in range(9):
            others = valid[i] & (torch.arange(9) != k)
            slow.append(x[i][others].exp().sum().log())
    slow = torch.stack(slow).reshape(6, 9)
    torch.testing.assert_close(out, slow, rtol=1e-13, atol=1e-13)
    ours = torch.autograd.grad((out * weight * valid).sum(), x)[0]
    expected = torch.autograd.grad((slow * weight * valid).sum(), x)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-13)


def test_leave_one_out_in_float32_is_accurate_whatever_dominates():
    for gap in (0.0, 1e-4, 1.0, 10.0, 80.0, 1e4):
        row = torch.tensor([[gap, 0.0, 0.0, -1.0]])
        valid = torch.ones(1, 4, dtype=torch.bool)
        exact = leave_one_out_lse(row.double(), valid)
        torch.testing.assert_close(leave_one_out_lse(row, valid).double(), exact, rtol=2e-7, atol=3e-7)


def test_leave_one_out_has_finite_gradient_where_nothing_is_left():
    for valid in (torch.zeros(1, 3), torch.tensor([[1, 0, 0]]), torch.tensor([[1, 1, 0]])):
        x = torch.randn(1, 3, requires_grad=True)
        out = leave_one_out_lse(x, valid.bool())
        assert torch.isfinite(out).all()
        assert torch.isfinite(torch.autograd.grad(out.sum(), x)[0]).all()


def test_prefix_lse_sums_the_first_entries():
    x, _ = numbers()
    valid = torch.arange(9)[None, :] < torch.tensor([9, 5, 1, 0, 3, 9])[:, None]
    length = torch.randint(1, 10, (6, 9), generator=torch.Generator().manual_seed(2))
    out = prefix_lse(x, valid, length)
    for i in range(6):
        for k in range(9):
            first = x[i][: length[i, k]][valid[i, : length[i, k]]]
            if len(first):
                torch.testing.assert_close(out[i, k], first.exp().sum().log())
    gradient = torch.autograd.grad(out[valid].sum(), x)[0]
    assert torch.isfinite(gradient).all()


def test_softmax_over_gives_nothing_to_invalid_pairs_and_to_log_weight_minus_1e9():
    logw = torch.tensor([[0.0, -1.0, -1e9, 3.0], [-1e9, -1e9, -1e9, 0.0], [-torch.inf, -4e8, 0.0, 0.0]])
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    weight = softmax_over(logw, valid)
    torch.testing.assert_close(weight[0, :2].sum(), torch.tensor(1.0))
    assert (weight[0, 2:] == 0).all()
    assert (weight[1] == 0).all()
    assert weight[2].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert (softmax_over(logw.bfloat16(), valid)[1] == 0).all()
