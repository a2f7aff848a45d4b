"""Tiny variants of every encoder and the checks that all of them must pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders import build_encoder
from medssl.encoders.file import load_encoder, save_encoder
from medssl.training.hardware.precision import guard_convolutions_

TINY: dict[str, dict[str, Any]] = {
    "alexnet3d": {"name": "alexnet3d", "width": 4, "shape": (24, 20, 26)},
    "densenet121": {
        "name": "densenet121",
        "width": 8,
        "growth": 8,
        "depth": (1, 1, 1),
        "stem": "small",
        "shape": (16, 18, 16),
    },
    "densenet121-final": {
        "name": "densenet121",
        "width": 8,
        "growth": 4,
        "depth": (1, 2),
        "stem": "small",
        "final": "norm",
        "shape": (16, 18, 16),
    },
    "mlp": {"name": "mlp", "hidden": (16, 12), "shape": (3, 4, 5)},
    "resnet18": {"name": "resnet18", "width": 4, "depth": (1, 1, 1), "stem": "small", "shape": (16, 18, 17)},
    "resnet50": {"name": "resnet50", "width": 4, "depth": (1, 1), "stem": "small", "shape": (16, 18, 17)},
    "vit": {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 8, "shape": (16, 24, 16)},
    "vit-cls": {
        "name": "vit",
        "width": 24,
        "depth": 2,
        "heads": 2,
        "patch": 8,
        "cls": True,
        "shape": (16, 24, 16),
    },
}


def tiny(name: str, **changes: Any) -> nn.Module:
    """A tiny encoder, the same weights every time."""
    torch.manual_seed(0)
    return build_encoder(**{**TINY[name], **changes})


def scans(encoder: nn.Module, n: int = 4) -> Tensor:
    """n random inputs of the size that the encoder was built for."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn((n, encoder.in_channels, *encoder.spec["shape"]), generator=generator)


def check_shapes(encoder: nn.Module) -> None:
    """What is returned is what ``provides`` and ``dim`` promise."""
    out = encoder(scans(encoder))
    given = {k for k, v in out._asdict().items() if v is not None}
    assert given == set(encoder.provides)
    assert out.pooled.shape == (4, encoder.dim)
    if out.map is not None:
        assert out.map.shape[:2] == (4, encoder.dim)
        assert out.map.ndim == 5
    if out.tokens is not None:
        assert out.tokens.shape == (4, encoder.n_tokens, encoder.dim)


def check_gradient(encoder: nn.Module) -> None:
    """Every parameter takes part in the pooled vector."""
    encoder.train()
    target = torch.randn(encoder.dim, generator=torch.Generator().manual_seed(2))
    encoder(scans(encoder)).pooled.mul(target).square().sum().backward()
    silent = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def check_bf16(encoder: nn.Module) -> None:
    """Autocast to bfloat16 stays finite and close to single precision, gradient included."""
    guard_convolutions_(encoder).eval()  # as a training in bfloat16 does
    x = scans(encoder)
    exact = encoder(x).pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder(x).pooled
    rough.float().sum().backward()
    assert torch.isfinite(rough).all()
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max() + 0.05
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def check_file(encoder: nn.Module, path: Any) -> None:
    """A saved encoder embeds bit for bit as before."""
    with torch.no_grad():
        encoder.train()
        encoder(scans(encoder))  # moves batch statistics away from their start
        encoder.eval()
        save_encoder(encoder, path, {"note": "test"})
        again = load_encoder(path)
        assert not again.training
        assert again.spec == encoder.spec
        assert all(p.requires_grad for p in again.parameters())
        x = scans(encoder)
        assert torch.equal(again(x).pooled, encoder(x).pooled)


def check_permutation(encoder: nn.Module) -> None:
    """In eval mode a scan's features depend neither on its place nor on its company."""
    encoder.eval()
    x, order = scans(encoder), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        out = encoder(x).pooled
        torch.testing.assert_close(encoder(x[order]).pooled, out[order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder(x[:1]).pooled, out[:1], rtol=1e-4, atol=1e-5)


def check_repeatable(encoder: nn.Module) -> None:
    """In eval mode two passes agree bit for bit and nothing inside moves."""
    encoder.eval()
    x = scans(encoder)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    copy = x.clone()
    with torch.no_grad():
        assert torch.equal(encoder(x).pooled, encoder(x).pooled)
    assert torch.equal(copy, x)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
