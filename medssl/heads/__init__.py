"""What methods put behind an encoder: projectors, decoders, generators, critics, prototypes."""

from __future__ import annotations

from medssl.heads.conv import ConvDecoder, Generator
from medssl.heads.critic import Critic
from medssl.heads.mlp import MLP
from medssl.heads.prototypes import Prototypes
from medssl.heads.tokens import TokenDecoder, random_keep

__all__ = ["MLP", "ConvDecoder", "Critic", "Generator", "Prototypes", "TokenDecoder", "random_keep"]
