from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from medssl.distributed import embed_in_parts, follow_first_, mean_over_processes
from medssl.errors import UserError
from medssl.recipe.catalog import CATALOG
from medssl.training.hardware.launch import Sharded, alone, build_trainer
from medssl.training.hardware.lost_process import is_lost, lost
from medssl.training.hardware.shards import refuse_shards
from medssl.training.options import TrainerOptions
from tests.methods.bench import Bench

VIT = ("mae",)


def trainer(**options: object):
    return build_trainer(TrainerOptions(accelerator="cpu", **options), [])


def test_one_device_needs_no_process_group_and_several_get_our_settings():
    assert isinstance(trainer().strategy, SingleDeviceStrategy)
    for name in ("auto", "ddp"):
        built = trainer(devices=2, strategy=name, timeout=45).strategy
        assert isinstance(built, DDPStrategy)
        assert built._timeout == timedelta(seconds=45)
        assert built._ddp_kwargs["broadcast_buffers"] is False, "banks are not sent around before every step"


def test_fsdp_writes_whole_checkpoints():
    built = trainer(devices=2, strategy="fsdp").strategy
    assert isinstance(built, Sharded)
    assert (built._data_parallel_size, built._tensor_parallel_size, built._save_distributed_checkpoint) == (2, 1, False)


def test_what_this_machine_does_not_have_is_one_sentence():
    with pytest.raises(UserError, match=r"strategy=no_such.*change these options"):
        trainer(strategy="no_such")


@pytest.mark.parametrize("name", CATALOG)
def test_shards_are_for_transformers_without_teacher_and_opponent(name: str):
    if name in VIT:
        refuse_shards(Bench(name).method)
        return
    with pytest.raises(UserError, match=r"not (ResNet|MomentumQueue|BiGAN)"):
        refuse_shards(Bench(name).method)


def test_alone_one_process_exchanges_nothing(tmp_path: Path):
    one = torch.nn.BatchNorm1d(2)
    before = {k: v.clone() for k, v in one.state_dict().items()}
    follow_first_(one)
    assert all(torch.equal(v, before[k]) for k, v in one.state_dict().items())
    value = torch.tensor(1.5, requires_grad=True)
    found = mean_over_processes({"loss": value})
    assert found["loss"].item() == 1.5
    assert not found["loss"].requires_grad
    asked = []
    embed_in_parts(lambda rows: (asked.append(rows), (torch.zeros(1), torch.zeros(1)))[1], "rows", torch.device("cpu"))
    assert asked == ["rows"]
    with alone(trainer(), until_last=False):
        pass


@pytest.mark.parametrize(
    ("problem", "broken"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"), True),
        (RuntimeError("NCCL communicator was aborted on rank 0"), True),
        (RuntimeError("size of tensor a must match"), False),
        (ValueError("gloo"), False),
    ],
)
def test_a_broken_exchange_is_told_from_other_errors(problem: BaseException, broken: bool):
    assert is_lost(problem) is broken


def test_who_lost_a_process_resumes_only_where_there_is_a_checkpoint(tmp_path: Path):
    assert lost(tmp_path, 60).endswith("there is no checkpoint yet, so start again")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000003.ckpt").touch()
    assert lost(tmp_path, 60).endswith(f"continue with `medssl pretrain --resume {tmp_path}`")
