from __future__ import annotations

import torch
import torch.nn.functional as F

from medssl.heads import Prototypes


def test_scores_of_unit_vectors_are_cosines():
    torch.manual_seed(0)
    head = Prototypes(6, 4)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[0.1], [1.0], [5.0], [20.0]]))
    z = F.normalize(torch.randn(8, 6), dim=1)
    expected = F.cosine_similarity(z[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(z), expected)
    torch.testing.assert_close(head.unit_KD.norm(dim=1), torch.ones(4))


def test_gradient_has_no_part_along_a_prototype():
    head = Prototypes(6, 4)
    (head(torch.randn(8, 6)) * torch.randn(8, 4)).sum().backward()
    assert head.weight.grad.abs().sum() > 0
    torch.testing.assert_close((head.weight.grad * head.weight).sum(1), torch.zeros(4), atol=1e-5, rtol=0)
