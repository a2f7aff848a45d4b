from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from medssl.methods.base import Method
from medssl.methods.regularizers.pairs import Alignment, FairKL, Uniformity
from medssl.methods.regularizers.spread import Covariance, Variance
from medssl.types import Batch, Facts, Joint

SCANS = 8


def setting() -> tuple[Method, list, torch.Tensor, torch.Tensor]:
    encoder = torch.nn.Linear(1, 1)
    encoder.dim = 1  # type: ignore[assignment]
    site = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1])
    facts = Facts(SCANS, site.numpy(), SCANS, (1, 1, 1, 1), {"site": site.double().numpy()})
    method = Method(encoder, facts)
    terms = [FairKL(method, facts), Alignment(method, facts), Uniformity(method, facts),
             Variance(method, facts, space="unit"), Covariance(method, facts)]  # fmt: skip
    x = torch.randn(2, SCANS, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return method, terms, x, site


def gradients(mine: slice) -> list[torch.Tensor]:
    """Value and gradient of every term for the scans of one process, by the rows (2, b, D) that it holds."""
    method, terms, x, site = setting()
    found = []
    for term in terms:
        own = x[:, mine].clone().requires_grad_()
        flat = own.reshape(-1, 5)
        index = torch.arange(SCANS)[mine]
        batch = Batch((), index, {"site": site[mine], "subject": index})
        unit = torch.nn.functional.normalize(flat, dim=1)
        value = term(method, Joint(unit, batch, lambda flat=flat: flat))
        found += [value.detach(), torch.autograd.grad(value, own)[0]]
    return found


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(gradients(slice(4 * rank, 4 * rank + 4)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow  # starts two interpreters
def test_two_processes_compute_the_terms_of_one_and_halve_no_gradient(tmp_path: Path) -> None:
    whole = gradients(slice(0, SCANS))
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for k in range(0, len(whole), 2):
        for part in parts:
            torch.testing.assert_close(part[k], whole[k], rtol=1e-9, atol=1e-12)
        both = torch.cat([part[k + 1] for part in parts], dim=1) / 2  # the adapter averages over processes
        torch.testing.assert_close(both, whole[k + 1], rtol=1e-8, atol=1e-12)
