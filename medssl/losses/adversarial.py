"""Adversarial losses on logits, for games between a critic and an encoder-generator pair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.errors import UserError
from medssl.losses.lse import wide


def ali_critic(encoded_N: Tensor, generated_N: Tensor) -> Tensor:
    r"""Critic of ALI / BiGAN: -mean log rho_q - mean log(1 - rho_p), with rho = sigmoid(logit).

    ``encoded_N``: logits l_q of pairs (x, E(x)); ``generated_N``: logits l_p of pairs (G(z), z). Computed as
    softplus(-l_q) + softplus(l_p); an undecided critic costs 2 log 2.
    Sources: Dumoulin et al. 2017, arXiv 1606.00704, algorithm 1; Donahue et al. 2017, arXiv 1605.09782.

    >>> round(ali_critic(torch.zeros(4), torch.zeros(4)).item(), 4)
    1.3863
    """
    return F.softplus(-wide(encoded_N)).mean() + F.softplus(wide(generated_N)).mean()


def ali_encoder_generator(encoded_N: Tensor, generated_N: Tensor) -> Tensor:
    r"""Encoder and generator of ALI / BiGAN: -mean log(1 - rho_q) - mean log rho_p (labels swapped).

    Logits as in ``ali_critic``; computed as softplus(l_q) + softplus(-l_p).

    >>> round(ali_encoder_generator(torch.zeros(4), torch.zeros(4)).item(), 4)
    1.3863
    """
    return ali_critic(generated_N, encoded_N)


def bigbigan_critic(encoded: Sequence[Tensor], generated: Sequence[Tensor]) -> Tensor:
    r"""Critic of BigBiGAN: sum over scores c of mean max(0, 1 - s_c(x, E(x))) + mean max(0, 1 + s_c(G(z), z)).

    The scores are the unary s_x and s_z and the joint s_xz, (N,) each; the joint alone is the hinge BiGAN.
    Source: Donahue and Simonyan 2019, arXiv 1907.02544.

    >>> bigbigan_critic([torch.zeros(4)] * 3, [torch.zeros(4)] * 3).item()
    6.0
    """
    _same_scores(encoded, generated)
    terms = [F.relu(1 - wide(s)).mean() for s in encoded] + [F.relu(1 + wide(s)).mean() for s in generated]
    return torch.stack(terms).sum()


def bigbigan_encoder_generator(encoded: Sequence[Tensor], generated: Sequence[Tensor]) -> Tensor:
    r"""Encoder and generator of BigBiGAN: sum over scores c of mean s_c(x, E(x)) - mean s_c(G(z), z).

    >>> bigbigan_encoder_generator([torch.ones(4)] * 3, [torch.zeros(4)] * 3).item()
    3.0
    """
    _same_scores(encoded, generated)
    terms = [wide(s).mean() for s in encoded] + [-wide(s).mean() for s in generated]
    return torch.stack(terms).sum()


def _same_scores(encoded: Sequence[Tensor], generated: Sequence[Tensor]) -> None:
    if not encoded or len(encoded) != len(generated):
        raise UserError(f"a critic gives the same scores to both pairs, got {len(encoded)} and {len(generated)}")
