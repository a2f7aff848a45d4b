"""BiGAN / ALI: an encoder learned by fooling a critic of pairs (scan, code)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from medssl.checks import Share, Width
from medssl.heads.conv import Generator
from medssl.heads.critic import Critic
from medssl.losses.adversarial import ali_critic, ali_encoder_generator
from medssl.methods.base import Method, frozen
from medssl.types import Batch, Facts, Features, Progress, Step


class BiGAN(Method):
    """Make (scan, its code) and (generated scan, random code) alike; the encoder then inverts the generator.

    Views: 1; the view maker draws the random code ("latent"). Labels: none. State: none. Collapse: the critic wins
    (its accuracy stays at 1) or the generator makes one scan (``generated_std`` falls to 0). Papers: Donahue et al.
    2017, arXiv 1605.09782; Dumoulin et al. 2017, arXiv 1606.00704. 3D: a DCGAN-like generator with group norm, a
    critic with spectral norm and without batch norm, both players stepped on the same forward pass.

    latent: size of the code (papers 64 to 256). generator_width, critic_width: channels of the widest stage's unit.
    dropout: in the critic. Code sizes are in batch.target["latent"], standard normal.
    """

    views: ClassVar[int] = 1
    normalised: ClassVar[bool] = False
    halts: ClassVar[frozenset[str]] = frozenset({"code", "made"})  # what the critic judges

    def __init__(
        self,
        encoder: nn.Module,
        facts: Facts,
        *,
        latent: Width = 64,
        generator_width: Width = 16,
        critic_width: Width = 16,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(encoder, facts)
        channels, shape = facts.shape[0], facts.shape[1:]
        self.wants = {"latent": (latent,)}
        self.projector = nn.Linear(self.width, latent)
        self.generator = Generator(latent, channels, shape, width=generator_width)
        self.critic = Critic(channels, shape, latent, width=critic_width, dropout=dropout)

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Encoder and generator against the critic."""
        own = [*self.encoder.parameters(), *self.projector.parameters(), *self.generator.parameters()]
        return {"encoder": [p for p in own if p.requires_grad], "critic": list(self.critic.parameters())}

    def step(self, batch: Batch, progress: Progress) -> Step:
        """Both losses on one pass: the critic's on detached pairs, the encoder's through a frozen critic."""
        (x,), z = batch.views, batch.target["latent"]
        code, made = self.project(self.encoder(x)), self.generator(z)
        real, fake = self.critic(x, self.halt("code", code)), self.critic(self.halt("made", made), z)
        with frozen(self.critic):
            fooled = ali_encoder_generator(self.critic(x, code), self.critic(made, z))
        with torch.no_grad():
            right = ((real > 0).float().mean() + (fake < 0).float().mean()) / 2
            log = {
                "critic_accuracy": right,
                "generated_std": made.std(0).mean(),
                "code_std": code.std(0).mean(),
            }
        return Step({"encoder": fooled, "critic": ali_critic(real, fake)}, log, {"z": code.detach()})

    def project(self, features: Features) -> Tensor:
        """The code E(x) (N, latent), raw as the game uses it."""
        code: Tensor = self.projector(features.pooled)
        return code
