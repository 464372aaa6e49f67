"""The recorder: old syntax, no dependency, no trace left in the run, files that our reader takes."""

import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from parity_recorder import Recorder, RecorderError, _moved, rng_digests, write_safetensors
from safetensors.torch import load_file, safe_open
from torch import nn

from parity.comparison import ulp_distance
from parity.recording import RecordingError, read_recording
from parity.side import entries_of
from tests.parity.recorder import outside

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "parity" / "recorder" / "parity_recorder.py"
# Everything the file takes from torch, each there since torch 1.6 (July 2020); newer names are asked for by getattr.
OLD_TORCH = {
    *(
        "__config__",
        "__version__",
        "backends",
        "cuda",
        "empty",
        "float64",
        "get_num_threads",
        "get_rng_state",
        "is_tensor",
    ),
    *("finfo", "Generator", "jit", "manual_seed", "nn", "optim", "randint", "strided", "tensor", "Tensor"),
    "view_as_real",
}
OLD_STDLIB = {
    *("__future__", "collections", "ctypes", "fnmatch", "functools", "hashlib", "itertools", "json", "os", "pathlib"),
    *("platform", "random", "re", "struct", "sys", "types", "typing"),
}
TOO_NEW = {"removeprefix", "removesuffix", "cache", "prod", "is_relative_to", "pairwise", "batched", "missing_ok"}


def test_the_file_is_python_3_7():
    ast.parse(FILE.read_text(), feature_version=(3, 7))


def test_the_syntax_check_can_fail():
    with pytest.raises(SyntaxError):
        ast.parse("if (n := 1): pass", feature_version=(3, 7))


def test_only_old_names_of_torch_and_the_standard_library_are_used():
    tree = ast.parse(FILE.read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= OLD_STDLIB | {"torch", "numpy"}, "numpy only to seed it, where it is installed"
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "torch"}
    assert used <= OLD_TORCH
    assert not {node.attr for node in attributes} & TOO_NEW
    evaluated = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    annotations = {id(part) for node in ast.walk(tree) for part in _annotations(node)}
    assert all(id(node) in annotations for node in evaluated), "X | Y outside annotations needs Python 3.9 or 3.10"


def _annotations(node):
    places = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [part for place in places if place is not None for part in ast.walk(place)]


def test_a_run_is_the_same_with_and_without_the_recorder(tmp_path):
    """Weights, optimizer and generators, bit for bit; nothing stays hooked."""
    torch.set_num_threads(1)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    model, optimizer = outside.build()
    outside.train(model, optimizer)
    expected, states = model.state_dict(), rng_digests()
    moments = optimizer.state_dict()["state"]
    found, adam = outside.record(tmp_path)
    assert rng_digests() == states
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.items())
    for index, state in adam.state_dict()["state"].items():
        assert all(torch.equal(value, moments[index][name]) for name, value in state.items())
    for module in found.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert "step" not in vars(adam)


def test_the_comparison_above_can_fail(tmp_path):
    torch.manual_seed(1)
    model, _ = outside.build()
    found, _ = outside.record(tmp_path)
    assert not torch.equal(model.embed.weight, found.embed.weight)


def test_our_reader_takes_what_it_writes(tmp_path):
    outside.record(tmp_path)
    recording = read_recording(tmp_path)
    names, tensors = list(recording.tensors), recording.trace().tensors
    assert len(names) == 162
    assert names.index("model.norm/out") < names.index("model.act/out") < names.index("model.block.0/out")
    assert {
        "model.block.0/out#2",
        "model.heads/out.1.right@1",
        "losses/left",
        "adam/exp_avg_sq/model.embed.bias@1",
    } <= set(names)
    assert tensors["model.heads/out.1.right"].dtype is torch.bfloat16
    assert not torch.equal(tensors["model.norm/out"], tensors["model.act/out"]), "copied before ReLU writes over it"
    assert recording.manifest["structure"]["without_gradient"] == [
        f"model.heads.unused.{p}" for p in ("weight", "bias")
    ]
    assert recording.manifest["structure"]["optimizers"]["adam"]["groups"][0]["lr"] == 1e-2
    assert recording.manifest["environment"]["torch"] == torch.__version__
    assert {"rng/torch", "rng/python", "rng/numpy"} <= set(recording.extras)
    assert {entry.kind for entry in entries_of(recording)} == {
        *("initial", "input", "forward", "loss", "gradient", "update", "buffer")
    }


def test_equal_runs_give_equal_files_and_a_changed_byte_is_noticed(tmp_path):
    for name in "ab":
        outside.record(tmp_path / name)
    one, other = (tmp_path / name / "manifest.safetensors" for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    damaged = bytearray(other.read_bytes())
    damaged[-1] ^= 1
    other.write_bytes(damaged)
    with pytest.raises(RecordingError, match="corrupt"):
        read_recording(tmp_path / "b")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_noise_is_one_unit_in_the_last_place(dtype):
    value = torch.cat([torch.rand(1000) * 4 - 2, torch.zeros(3), 2.0 ** torch.arange(-5, 5)]).to(dtype)
    far = ulp_distance(value, _moved(value, 3))
    assert far.max() <= 2
    assert (far == 0).sum() > 200
    assert (far[:1000] > 0).sum() > 500
    assert torch.equal(_moved(value, 3), _moved(value, 3))
    assert not torch.equal(_moved(value, 3), _moved(value, 4))
    assert torch.equal(_moved(torch.arange(5), 3), torch.arange(5))


def test_a_noise_recording_moves_weights_and_inputs_and_no_generator(tmp_path):
    outside.record(tmp_path / "plain")
    states = rng_digests()
    outside.record(tmp_path / "noise", ulp=1)
    assert rng_digests() == states
    plain, noise = (read_recording(tmp_path / name) for name in ("plain", "noise"))
    assert (plain.manifest["about"]["ulp"], noise.manifest["about"]["ulp"]) == (0, 1)
    for name in ("initial/model.embed.weight", "model/in.0"):
        drift = plain.compare(name, noise.tensors[name]["full"])
        assert 0 < drift.max_ulp <= 2
        assert 0 < drift.differing < drift.count
    out = plain.compare("model.heads/out.0@1", noise.tensors["model.heads/out.0@1"]["full"])
    assert 0 < out.rel_l2 < 1e-4


def test_a_recording_is_not_overwritten_unless_told(tmp_path):
    outside.record(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(RecorderError, match="holds a recording; take another folder or overwrite=True"):
        outside.record(tmp_path, ulp=1)
    assert (tmp_path / "manifest.json").read_bytes() == before
    outside.record(tmp_path, ulp=1, overwrite=True)
    assert (tmp_path / "manifest.json").read_bytes() != before


def test_the_generators_can_be_put_back(tmp_path):
    with Recorder(tmp_path, seed=7) as recorder:
        expected = torch.rand(3), np.random.rand(), random.random()
        recorder.step()
    extras = read_recording(tmp_path).extras
    torch.set_rng_state(extras["rng/torch"])
    random.setstate((3, tuple(extras["rng/python"].tolist()), None))
    keys = extras["rng/numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys[:624], np.uint32), keys[624], keys[625], 0.0))
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
def test_hand_written_safetensors_are_safetensors(dtype, shape, tmp_path):
    value = (torch.arange(15).reshape(3, 5) if shape else torch.tensor(3)).to(getattr(torch, dtype))
    value = value[:0, 0] if shape == (0,) else value
    write_safetensors(tmp_path / "x.safetensors", {"a": value, "odd": torch.ones(3, dtype=torch.uint8)})
    found = load_file(tmp_path / "x.safetensors")["a"]
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert torch.equal(found, value)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert "parity" in file.metadata()


def test_a_scheduler_may_wrap_the_optimizer_before_or_after(tmp_path):
    model, optimizer = outside.build()
    before = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    own = optimizer.step
    with Recorder(tmp_path, steps=1) as recorder:
        recorder.watch(model=model, adam=optimizer)
        after = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        outside.train(model, optimizer, recorder, steps=1)
        before.step(), after.step()
    assert "adam/parameter/model.embed.weight" in read_recording(tmp_path).tensors
    outside.train(model, optimizer, steps=1)  # still works, and records nothing more
    assert callable(own)


def test_a_closure_and_a_second_optimizer(tmp_path):
    layer = nn.Linear(2, 1)
    lbfgs = torch.optim.LBFGS(layer.parameters(), max_iter=2)

    def closure():
        lbfgs.zero_grad()
        loss = layer(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    with Recorder(tmp_path, steps=1) as recorder:
        recorder.watch(layer=layer, lbfgs=lbfgs)
        lbfgs.step(closure)
        recorder.step()
    assert {"gradients/layer.weight", "lbfgs/parameter/layer.weight", "layer/out#2"} <= set(
        read_recording(tmp_path).tensors
    )


def test_only_what_is_wanted_is_kept(tmp_path):
    outside.record(tmp_path, only=("model.heads*",), keep=("forward", "loss"))
    assert {name.partition("@")[0].partition("#")[0] for name in read_recording(tmp_path).tensors} == {
        *("model.heads.left/out", "model.heads.right/out", "model.heads/out.0", "model.heads/out.1.right"),
        *("losses/left", "losses/right"),
    }


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda r: r.watch(model=3), "neither a module nor an optimizer"),
        (lambda r: (r.watch(a=nn.Linear(1, 1)), r.watch(a=nn.Linear(1, 1))), "watched already"),
        (lambda r: r.tensor("image", torch.ones(1)), "stage/tensor"),
        (lambda r: r.tensor("batch/image", torch.ones(1 << 10)), "max_bytes is exceeded at batch/image"),
    ],
)
def test_wrong_use_is_named(wrong, words, tmp_path):
    with pytest.raises(RecorderError, match=words), Recorder(tmp_path / "r", max_bytes=1000) as recorder:
        wrong(recorder)
    assert not (tmp_path / "r").exists(), "a failed run leaves no recording"
    with pytest.raises(RecorderError, match="inside the with block"):
        Recorder(tmp_path).watch(a=nn.Linear(1, 1))


def test_a_torchvision_model(tmp_path):
    """A real network that this repository never builds: modules used twice, in-place activations, batch statistics."""
    from torchvision.models import resnet18

    with Recorder(tmp_path, seed=0, steps=1, keep=("forward", "loss", "gradient", "buffer")) as recorder:
        model = resnet18(num_classes=4)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        recorder.watch(net=model, sgd=sgd)
        loss = recorder.loss(
            "entropy", nn.functional.cross_entropy(model(torch.rand(2, 3, 32, 32)), torch.tensor([0, 1]))
        )
        loss.backward()
        sgd.step()
        recorder.step()
    names = list(read_recording(tmp_path).tensors)
    assert len([name for name in names if name.startswith("gradients/")]) == 62
    assert "net.layer1.0.relu/out#2" in names
    assert names[-1].startswith("buffers/")


@pytest.mark.skipif("PARITY_OLD_PYTHON" not in os.environ, reason="PARITY_OLD_PYTHON names no Python with an old torch")
def test_an_old_torch_writes_what_we_read(tmp_path):
    old = {**os.environ, "PYTHONPATH": str(FILE.parent)}
    program = Path(__file__).with_name("outside.py")
    ran = subprocess.run(
        [os.environ["PARITY_OLD_PYTHON"], program, tmp_path], env=old, check=True, capture_output=True, text=True
    )
    outside.record(tmp_path / "new")
    recordings = [read_recording(folder) for folder in (tmp_path, tmp_path / "new")]
    assert recordings[0].manifest["environment"]["torch"] == ran.stdout.split()[0] != torch.__version__
    assert list(recordings[0].tensors) == list(recordings[1].tensors)
    weights = [name for name in recordings[0].tensors if name.startswith("initial/")]
    assert all(recordings[0].compare(name, recordings[1].tensors[name]["full"]).bitwise for name in weights)


def test_it_runs_alone(tmp_path):
    """With nothing of ours on the path but the one file."""
    (tmp_path / "parity_recorder.py").write_bytes(FILE.read_bytes())
    (tmp_path / "train.py").write_bytes(Path(outside.__file__).read_bytes())
    subprocess.run(
        [sys.executable, "-P", "train.py", "out"],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["subject"] == "outside"
