"""Record what a training run computes, in the environment that it runs in. Copy this one file next to the trainer.

Needs Python 3.7 or later, torch 1.6 or later, and nothing else; imports nothing of ours. It seeds, reads every module's
output (forward hooks; never backward hooks, which change gradients), losses, gradients, optimizer updates, buffers,
random states and the environment, and writes `manifest.json` and `manifest.safetensors`. Afterwards nothing stays
hooked, and the run computes the same bytes as without it.

    with Recorder("recordings/old", seed=0, steps=2) as recorder:
        model, optimizer = build()
        recorder.watch(model=model, adam=optimizer)
        for batch in loader:
            loss = recorder.loss("photo", criterion(model(batch)))
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            if recorder.step():
                break

Names: `model.layer1.conv/out` (second call in a step: `out#2`; part of a tuple or dict: `out.0`), `model/in.0`,
`losses/photo`, `initial|gradients|buffers/model.layer1.conv.weight`, `adam/parameter|exp_avg|.../model...`; steps after
the first end in `@1`, `@2`. Order is the order of calls; what is no tensor is not recorded.
"""

from __future__ import annotations

import ctypes
import fnmatch
import functools
import hashlib
import itertools
import json
import os
import platform
import random
import re
import struct
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

try:
    import numpy  # only to seed and digest its generator
except ImportError:
    numpy = None  # type: ignore[assignment]

VERSION = 2
SCHEMA = 1  # of parity/recording.py
KINDS = ("initial", "input", "forward", "loss", "gradient", "update", "buffer", "other")
_CODES = "float64 F64 float32 F32 float16 F16 bfloat16 BF16 int64 I64 int32 I32 int16 I16 int8 I8 uint8 U8 bool BOOL"
_DTYPES = {getattr(torch, name): code for name, code in re.findall(r"(\w+) (\w+)", _CODES)}
_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONHASHSEED", "MKL_CBWR")


class RecorderError(RuntimeError):
    """The recorder was used in a way that would leave a wrong or endless recording."""


class Recorder:
    """Records the first `steps` training steps.

    Args:
        folder: where the recording goes; made if missing, refused if it holds one already and `overwrite` is not set.
        seed: if given, python, numpy (where installed), torch and CUDA are seeded on entering.
        steps: how many calls of `step` end the recording.
        name: what is recorded, for the reader ("legacy trainer, commit 1a2b").
        only: shell patterns of module names whose outputs are kept; `("model.encoder", "model.head.*")`.
        keep: kinds of tensors to keep, see KINDS.
        max_bytes: of all tensors together.
        ulp: number of a draw that moves weights (in `watch`) and positional inputs by one ULP: noise to compare with.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        seed: int | None = None,
        steps: int = 1,
        name: str = "recording",
        only: Iterable[str] = ("*",),
        keep: Iterable[str] = KINDS,
        max_bytes: int = 8 << 30,
        ulp: int = 0,
        overwrite: bool = False,
    ) -> None:
        if steps < 1:
            raise RecorderError(f"steps is {steps!r}; record at least one step")
        self.folder, self.name, self.seed, self.steps = Path(folder), name, seed, steps
        self.done, self._only, self._keep, self._room = False, tuple(only), frozenset(keep), max_bytes
        if not self._keep <= set(KINDS):
            raise RecorderError(f"keep has unknown kinds; it is {sorted(self._keep)}, known are {KINDS}")
        if (self.folder / "manifest.json").exists() and not overwrite:
            raise RecorderError(f"{self.folder} holds a recording; take another folder or overwrite=True")
        self.ulp, self._draws = ulp, itertools.count(1000003 * ulp)
        self._now, self._entered = 0, False
        self._tensors: dict[str, torch.Tensor] = {}
        self._extras: dict[str, torch.Tensor] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, int] = {}
        self._watched: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._undo: list[Any] = []
        self._structure: dict[str, Any] = {name: {} for name in ("rng", "modules", "training", "optimizers")}
        self._structure.update(not_recorded=[], without_gradient=[])

    def __enter__(self) -> Recorder:
        self._entered = True
        if self.seed is not None:
            seed_everything(self.seed)
        self._structure["rng"]["start"] = rng_digests()
        self._extras = rng_states()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._unhook()
        if kind is None and not self.done:
            self._write()

    def watch(self, **things: torch.nn.Module | torch.optim.Optimizer) -> None:
        """Hook modules and optimizers under these names; RecorderError for anything else, and outside of the block."""
        if not self._entered or self.done:
            raise RecorderError("watch() belongs inside the with block, before the last step")
        for name, thing in things.items():
            if name in self._watched:
                raise RecorderError(f"the name {name!r} is watched already; choose another")
            self._watched[name] = thing
            if isinstance(thing, torch.nn.Module):
                self._watch_module(name, thing)
            elif isinstance(thing, torch.optim.Optimizer):
                self._watch_optimizer(name, thing)
            else:
                raise RecorderError(f"{name} is a {type(thing).__name__}, neither a module nor an optimizer")

    def loss(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Record one loss term and return it unchanged."""
        self._put("loss", f"losses/{name}", tensor)
        return tensor

    def tensor(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Record any other tensor as `stage/name` (else RecorderError), such as the batch, and return it unchanged."""
        if "/" not in name:
            raise RecorderError(f"{name!r}: name it stage/tensor, such as batch/image")
        self._put("other", name, tensor)
        return tensor

    def step(self) -> bool:
        """End a training step; with the last one everything is unhooked and written. Says whether it was the last."""
        if self.done:
            return True
        for root, module in self._watched.items():
            for name, buffer in module.named_buffers() if isinstance(module, torch.nn.Module) else ():
                self._put("buffer", f"buffers/{root}.{name}", buffer)
        self._structure["rng"][f"after step {self._now}"] = rng_digests()
        self._now, self._calls = self._now + 1, {}
        if self._now == self.steps:
            self._unhook()
            self._write()
        return self.done

    def _watch_module(self, root: str, module: torch.nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if self.ulp and id(parameter) not in self._names:  # one that is shared moves once
                parameter.data.copy_(_moved(parameter.data, next(self._draws)))
            full = self._names.setdefault(id(parameter), f"{root}.{name}")
            self._put("initial", f"initial/{full}", parameter)
        for name, child in module.named_modules():
            full = f"{root}.{name}" if name else root
            self._structure["modules"][full] = type(child).__name__
            if isinstance(child, torch.jit.ScriptModule):
                self._structure["not_recorded"].append(f"{full}: a scripted module takes no hooks")
            elif any(fnmatch.fnmatchcase(full, pattern) for pattern in self._only):
                self._undo.append(child.register_forward_hook(functools.partial(self._called, full)).remove)
        self._undo.append(module.register_forward_pre_hook(functools.partial(self._given, root)).remove)

    def _given(self, root: str, module: torch.nn.Module, inputs: Any) -> Any:
        if self.ulp:
            inputs = tuple(_moved(x, next(self._draws)) if isinstance(x, torch.Tensor) else x for x in inputs)
        for name, tensor in _leaves(inputs):
            self._put("input", f"{root}/in{name}", tensor, module)
        return inputs if self.ulp else None

    def _called(self, name: str, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._structure["training"].setdefault(name, module.training)
        for part, tensor in _leaves(output):
            self._put("forward", f"{name}/out{part}", tensor, module)

    def _watch_optimizer(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        self._structure["optimizers"][name] = {"class": type(optimizer).__name__, "groups": self._groups(optimizer)}
        own = vars(optimizer).get("step")  # a learning-rate scheduler may have put one there
        original = optimizer.step

        @functools.wraps(original)
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            inside = bool(args or kwargs.get("closure"))  # a closure computes the gradients inside
            if not inside:
                self._gradients(optimizer)
            result = original(*args, **kwargs)
            if inside:
                self._gradients(optimizer)
            self._updated(name, optimizer)
            return result

        def restore() -> None:
            if vars(optimizer).get("step") is not wrapped:
                return  # wrapped once more since: ours stays below it and does nothing
            del optimizer.step  # the class's own shows again
            if own is not None:
                optimizer.step = own  # type: ignore[method-assign]

        wrapped = types.MethodType(step, optimizer)  # schedulers ask a method for its object
        optimizer.step = wrapped  # type: ignore[method-assign]
        self._undo.append(restore)

    def _groups(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        names, groups = [name for name, _ in self._parameters(optimizer)], []
        for group in optimizer.param_groups:
            groups.append({key: _plain(value) for key, value in group.items() if key != "params"})
            groups[-1]["params"] = [names.pop(0) for _ in group["params"]]
        return groups

    def _gradients(self, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in self._parameters(optimizer):
            if parameter.grad is not None:
                self._put("gradient", f"gradients/{name}", parameter.grad)
            elif not self._now:
                self._structure["without_gradient"].append(name)

    def _updated(self, optimizer_name: str, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in self._parameters(optimizer):
            self._put("update", f"{optimizer_name}/parameter/{name}", parameter)
            for key, value in sorted(optimizer.state.get(parameter, {}).items()):
                if isinstance(value, (int, float)):
                    value = torch.tensor(float(value))
                if isinstance(value, torch.Tensor):
                    self._put("update", f"{optimizer_name}/{key}/{name}", value)

    def _parameters(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
        for g, group in enumerate(optimizer.param_groups):
            for i, parameter in enumerate(group["params"]):
                yield self._names.setdefault(id(parameter), f"unwatched.{g}.{i}"), parameter

    def _put(self, kind: str, name: str, tensor: torch.Tensor, module: torch.nn.Module | None = None) -> None:
        if self.done or kind not in self._keep:
            return
        tensor = tensor.detach()
        tensor = tensor.to_dense() if tensor.is_sparse else tensor
        tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        if tensor.dtype not in _DTYPES or tensor.layout is not torch.strided:
            self._structure["not_recorded"].append(f"{name}: {tensor.dtype}")
            return
        call = self._calls[name] = self._calls.get(name, 0) + 1
        key = name + (f"#{call}" if call > 1 else "") + (f"@{self._now}" if self._now else "")
        self._room -= tensor.numel() * tensor.element_size()
        if self._room < 0:
            raise RecorderError(f"max_bytes is exceeded at {key}; take fewer modules (only=), kinds (keep=) or steps")
        self._tensors[key] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor)
        owner = "" if type(module).__module__.startswith("torch.") else "own "  # a refactoring may rename own classes
        self._entries[key] = {"kind": kind, "module": owner + type(module).__name__ if module is not None else ""}

    def _unhook(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _write(self) -> None:
        self.done = True
        self.folder.mkdir(parents=True, exist_ok=True)
        for key, tensor in self._tensors.items():
            dtype = str(tensor.dtype).replace("torch.", "")
            about = {"shape": list(tensor.shape), "dtype": dtype, "sha256": hashlib.sha256(_raw(tensor)).hexdigest()}
            self._entries[key].update(about)
        stored = {f"{key}::full": tensor for key, tensor in self._tensors.items()}
        stored.update({f"{key}::extra": tensor for key, tensor in self._extras.items()})
        size, digest = write_safetensors(self.folder / "manifest.safetensors", stored)
        manifest = {
            "schema": SCHEMA,
            "subject": self.name,
            "tensors": self._entries,
            "extras": list(self._extras),
            "structure": self._structure,
            "draws": [],
            "environment": environment(),
            "about": {"recorder": VERSION, "seed": self.seed, "steps": self._now, "ulp": self.ulp},
            "safetensors": {"sha256": digest, "bytes": size},
        }
        _replace(self.folder / "manifest.json", [json.dumps(manifest, indent=1).encode() + b"\n"])
        self._tensors = {}


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> tuple[int, str]:
    """Write length of the header, header in JSON, raw little-endian bytes; returns the file's size and SHA-256."""
    if sys.byteorder != "little":
        raise RecorderError("this machine is big-endian; safetensors holds little-endian bytes")
    # The largest elements first keeps every tensor aligned for readers that map the file.
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    header: dict[str, Any] = {"__metadata__": {"parity": json.dumps({"schema": SCHEMA})}}
    place = 0
    for key in order:
        end = place + tensors[key].numel() * tensors[key].element_size()
        kind, shape = _DTYPES[tensors[key].dtype], list(tensors[key].shape)
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return _replace(path, itertools.chain([struct.pack("<Q", len(text)), text], (_raw(tensors[key]) for key in order)))


def seed_everything(seed: int) -> None:
    """Seed python, numpy where it is installed, torch on the CPU and every CUDA device."""
    random.seed(seed)
    torch.manual_seed(seed)
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def rng_states() -> dict[str, torch.Tensor]:
    """The states of the global generators as tensors: enough to continue from them elsewhere."""
    states = {"rng/torch": torch.get_rng_state(), "rng/python": torch.tensor(list(random.getstate()[1]))}
    if numpy is not None:
        _, keys, place, has_gauss, gauss = numpy.random.get_state()
        states["rng/numpy"] = torch.tensor([int(key) for key in keys] + [int(place), int(has_gauss)])
        states["rng/numpy_gauss"] = torch.tensor([float(gauss)], dtype=torch.float64)
    if torch.cuda.is_available():
        states.update({f"rng/cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())})
    return states


def rng_digests() -> dict[str, str]:
    """A digest of the state of each global generator."""
    return {name[4:]: hashlib.sha256(_raw(state)).hexdigest() for name, state in rng_states().items()}


def environment() -> dict[str, str]:
    """What the numbers depend on besides code and input, as far as this torch can tell."""
    cudnn, config = torch.backends.cudnn, torch.__config__.show()
    build = {"mkl": "Math Kernel Library Version ", "onednn": "MKL-DNN v", "cpu capability": "CPU capability usage: "}
    newer = {
        "matmul precision": getattr(torch, "get_float32_matmul_precision", None),
        "deterministic algorithms": getattr(torch, "are_deterministic_algorithms_enabled", None),
    }
    found = {
        "os": platform.platform(),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "numpy": "absent" if numpy is None else numpy.__version__,
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }
    switches = {"benchmark": "benchmark", "deterministic": "deterministic", "tf32": "allow_tf32"}
    found.update({f"cudnn {name}": str(getattr(cudnn, switch, "unknown")) for name, switch in switches.items()})
    found.update({name: (config.partition(mark)[2].split() or ["unknown"])[0] for name, mark in build.items()})
    found.update({name: str(question()) for name, question in newer.items() if question is not None})
    found.update({"variable " + name: os.environ[name] for name in _VARIABLES if name in os.environ})
    return dict(sorted(found.items()))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside nested tuples, lists and dicts, with its place as `.0.key`."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, (dict, tuple, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{name}.{key}")


def _moved(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Each float element moved by -1, 0 or +1 unit in the last place (2 just below a power of two); 0 stays 0."""
    if not tensor.is_floating_point():
        return tensor
    draw = torch.randint(-1, 2, tuple(tensor.shape), generator=torch.Generator().manual_seed(seed))
    factor = (
        1 + 0.75 * torch.finfo(tensor.dtype).eps * draw.to(tensor.device).double()
    )  # 0.75 to 1.5 units: rounds to 1
    return (tensor.double() * factor).to(tensor.dtype)


def _raw(tensor: torch.Tensor) -> bytes:
    """The bytes of a contiguous tensor on the CPU, whatever its type; numpy knows no bfloat16."""
    count = tensor.numel() * tensor.element_size()
    return ctypes.string_at(tensor.data_ptr(), count) if count else b""


def _replace(path: Path, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write a file so that it is either the old one or the whole new one."""
    part, digest, size = path.with_name(f"{path.name}.{os.getpid()}.part"), hashlib.sha256(), 0
    try:
        with part.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
                digest.update(piece)
        part.replace(path)
    finally:
        if part.exists():
            part.unlink()
    return size, digest.hexdigest()


def _plain(value: Any) -> Any:
    known = value is None or isinstance(value, (bool, int, float, str))
    return [_plain(x) for x in value] if isinstance(value, (tuple, list)) else value if known else repr(value)
