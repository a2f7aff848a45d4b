from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl import stages
from medssl.errors import UserError
from medssl.recipe.model import load_recipe
from medssl.training.hardware import device
from medssl.training.hardware.device import announce, compiled, laid_out, lay_out_, processor, refuse_machine, settle
from medssl.training.options import TrainerOptions
from tests.conftest import tiny_recipe


@pytest.mark.parametrize(
    ("place", "precision", "form"),
    [
        ("gpu-bf16", "bf16-mixed", "channels_last"),
        ("gpu", "32-true", "contiguous"),
        ("cpu-amx", "bf16-mixed", "channels_last"),
        ("cpu-bf16", "bf16-mixed", "contiguous"),
        ("cpu", "32-true", "contiguous"),
    ],
)
def test_each_processor_gets_what_helps_it(place: str, precision: str, form: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "processor", lambda accelerator: place)
    found = settle(TrainerOptions())
    assert (found.precision, found.memory_format) == (precision, form)
    assert settle(found) == found, "what is decided stays"


def test_what_the_user_wrote_is_kept_and_tables_stay_in_single_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "processor", lambda accelerator: "gpu-bf16")
    assert settle(TrainerOptions(precision="32-true")).precision == "32-true"
    assert settle(TrainerOptions(precision="32-true")).memory_format == "contiguous"
    assert settle(TrainerOptions(memory_format="contiguous")).memory_format == "contiguous"
    assert settle(TrainerOptions(), volumes=False).precision == "32-true"


@pytest.mark.parametrize(
    ("amx", "bf16", "found"), [(True, True, "cpu-amx"), (False, True, "cpu-bf16"), (False, False, "cpu")]
)
def test_a_cpu_is_asked_for_its_units(amx: bool, bf16: bool, found: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    assert processor("cpu") == found


@pytest.mark.parametrize(("half", "found"), [(True, "gpu-bf16"), (False, "gpu")])
def test_a_gpu_is_asked_for_its_units(half: bool, found: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: half)
    assert processor("auto") == processor("gpu") == found
    assert processor("cpu").startswith("cpu")


def test_a_run_keeps_the_decision_and_does_not_decide_again(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changes = [*tiny_recipe(cohort, tmp_path / "run"), "trainer.precision=auto", "trainer.epochs=1"]
    monkeypatch.setattr(device, "processor", lambda accelerator: "cpu-amx")
    run = stages.pretrain("simclr", *changes, progress=False, page=False)
    kept = load_recipe(run / "recipe.yaml").trainer
    assert (kept.precision, kept.memory_format) == ("bf16-mixed", "channels_last")
    monkeypatch.setattr(device, "processor", lambda accelerator: "cpu")
    assert stages.pretrain(resume=run, progress=False, page=False) == run
    assert load_recipe(run / "recipe.yaml").trainer == kept


def test_layout_changes_strides_and_nothing_else():
    net = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randn(2, 2, 4, 4, 4)
    before, weights = net(x), {k: v.clone() for k, v in net.state_dict().items()}
    lay_out_(net, "channels_last")
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(net(laid_out(x, "channels_last")), before)
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    assert laid_out(x, "contiguous") is x
    assert laid_out(x[0], "channels_last").is_contiguous()


@pytest.mark.slow  # starts a C++ compiler
def test_a_compiled_encoder_computes_the_same_and_is_plain_again_afterwards():
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2))
    x, keys = torch.randn(2, 1, 4, 4, 4), list(net.state_dict())
    wanted = net(x)
    gradient = torch.autograd.grad(wanted.sum(), net[0].weight)[0]
    with compiled(net, True):
        found = net(x)
        assert net._compiled_call_impl is not None
        assert list(net.state_dict()) == keys
        torch.testing.assert_close(torch.autograd.grad(found.sum(), net[0].weight)[0], gradient)
    assert net._compiled_call_impl is None
    torch.testing.assert_close(found, wanted)


def test_a_machine_that_cannot_compile_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def broken(f: object, **options: object) -> object:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand a page of advice")

    monkeypatch.setattr(torch, "compile", broken)
    words = r"trainer\.compile=true does not work here .*g\+\+"
    with pytest.raises(UserError, match=words) as caught:
        refuse_machine(TrainerOptions(compile=True, accelerator="cpu"))
    assert "\n" not in str(caught.value)
    refuse_machine(TrainerOptions(accelerator="cpu"))


def test_an_encoder_that_cannot_be_compiled_is_said_in_one_sentence():
    page = torch._dynamo.exc.InternalTorchDynamoError("CppCompileError: C++ compile error\n" + "fatal error\n" * 60)
    words = r"trainer\.compile=true does not work here \(CppCompileError.*trainer\.compile=false"
    with pytest.raises(UserError, match=words) as caught, compiled(nn.Linear(1, 1), True):
        raise page
    assert len(str(caught.value)) < 300
    with pytest.raises(RuntimeError, match="of the training"), compiled(nn.Linear(1, 1), True):
        raise RuntimeError("of the training")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerator": "gpu"}, "torch finds no GPU here"),
        ({"sync_batchnorm": True}, "works on GPUs only"),
        ({"strategy": "no_such"}, "trainer.strategy=no_such is unknown; use auto, ddp or fsdp"),
    ],
)
def test_what_a_machine_does_not_have_is_refused(options: dict, words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=words):
        refuse_machine(TrainerOptions(**options))
    refuse_machine(TrainerOptions(strategy="ddp_spawn"))


def test_what_was_chosen_by_itself_is_said_unless_quiet(capsys):
    asked = TrainerOptions(compile=True, micro_batch=8)
    announce(asked, replace(asked, precision="bf16-mixed"), 8, quiet=False)
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == ["precision", "compiling", "trainer.micro_batch=8"]
    announce(asked, replace(asked, precision="bf16-mixed"), 8, quiet=True)
    told = TrainerOptions(precision="bf16-mixed", micro_batch=8)
    announce(told, told, 9, quiet=False)
    assert capsys.readouterr().err == ""
