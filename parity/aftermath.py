"""What a run leaves behind: digests of all it may change, and marks of all that may stay hooked or patched.

Digests are SHA-256 over bytes, so equal means bit-equal. Marks hold the objects themselves: a patched function is
another object, whatever it is called.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import NonCallableMock

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from parity.randomness import rng_digests

# What may be patched: these packages and the modules below them.
PATCHABLE = ("torch.nn.functional", "torchvision.models", "pytorch3d", "decalib", "legacy_aucgan_decalib", "modern")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
_ABSENT = "absent"


def state_digests(networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> dict[str, str]:
    """`kind/name` -> digest of every parameter, gradient, buffer, mode, optimizer state and global generator."""
    found: dict[str, str] = {}
    for name, network in networks.items():
        for key, parameter in network.named_parameters():
            found[f"parameters/{name}.{key}"] = digest(parameter)
            found[f"gradients/{name}.{key}"] = _ABSENT if parameter.grad is None else digest(parameter.grad)
        found |= {f"buffers/{name}.{key}": digest(buffer) for key, buffer in network.named_buffers()}
        modes = json.dumps([module.training for module in network.modules()])
        found[f"modes/{name}"] = hashlib.sha256(modes.encode()).hexdigest()
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        found[f"optimizer state/{name}.settings"] = hashlib.sha256(repr(state["param_groups"]).encode()).hexdigest()
        for index, values in state["state"].items():
            for key, value in values.items():
                found[f"optimizer state/{name}.{index}.{key}"] = digest(torch.as_tensor(value))
    return found | {f"random generators/{name}": value for name, value in rng_digests().items()}


def digest(tensor: Tensor) -> str:
    """SHA-256 over type, shape and bytes of a tensor."""
    data = tensor.detach().cpu().contiguous()
    sha = hashlib.sha256(f"{data.dtype} {tuple(data.shape)}".encode())
    sha.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def unequal(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names whose digests differ, or that only one side has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def marks(roots: Iterable[object] = ()) -> dict[str, object]:
    """Everything process-wide that a run may leave patched or switched, and all hooks on `roots` and below.

    Args:
        roots: networks, optimizers, and objects whose own attributes may be patched (a trainer, a step).
    """
    found = dict(_switches()) | dict(_patchable())
    for index, root in enumerate(roots):
        found |= {f"{type(root).__name__} {index}: {place}": value for place, value in _hooks_of(root)}
    return found


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Places that differ now, or where something new is hooked; modules first imported in between are no change."""
    gone = [name for name in before if name not in after]
    other = [name for name, value in after.items() if name in before and not _same(before[name], value)]
    return sorted([*gone, *other])


def _same(a: object, b: object) -> bool:
    # Settings compare by value; functions by identity, since an equal-looking wrapper is still a wrapper.
    return a is b or (not callable(a) and type(a) is type(b) and a == b)


def _switches() -> Iterator[tuple[str, object]]:
    from torch.nn.modules import module as modules
    from torch.optim import optimizer as optimizers
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    yield "gradient mode", torch.is_grad_enabled()
    yield "inference mode", torch.is_inference_mode_enabled()
    yield "anomaly mode", torch.is_anomaly_enabled()
    yield "default dtype", torch.get_default_dtype()
    yield "deterministic algorithms", torch.are_deterministic_algorithms_enabled()
    yield "deterministic algorithms only warn", torch.is_deterministic_algorithms_warn_only_enabled()
    yield "threads", torch.get_num_threads()
    yield "matmul precision", torch.get_float32_matmul_precision()
    for name in ("benchmark", "deterministic", "allow_tf32", "enabled"):
        yield f"torch.backends.cudnn.{name}", getattr(torch.backends.cudnn, name)
    yield "torch print options", dict(vars(torch._tensor_str.PRINT_OPTS))
    yield "numpy print options", str(np.get_printoptions())
    yield "profiler of the interpreter", sys.getprofile()
    yield "tracer of the interpreter", sys.gettrace()
    yield "torch function modes", len(_get_current_function_mode_stack())
    yield "torch dispatch modes", len(_get_current_dispatch_mode_stack())
    yield "hooks on saved tensors", torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    for name in _GLOBAL_HOOKS:
        yield f"torch.nn{name}", len(getattr(modules, name))
    for name in ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks"):
        yield f"torch.optim{name}", len(getattr(optimizers, name))
    yield "working folder", str(Path.cwd())
    yield "environment variables", {key: value for key, value in os.environ.items() if key.isupper()}


def _patchable() -> Iterator[tuple[str, object]]:
    """Functions and classes of the packages that taps patch, and the methods of their classes and of torch's own."""
    for name, module in list(sys.modules.items()):
        if module is not None and any(name == part or name.startswith(f"{part}.") for part in PATCHABLE):
            yield from _attributes(name, vars(module))
    yield from _attributes("torch", vars(torch), methods=False)
    for kind in (nn.Module, Tensor, Optimizer):
        yield from _attributes(kind.__name__, vars(kind))
        # Not those with underscores: copying and pickling keep notes of their own on a class.
        yield f"names of {kind.__name__}", sorted(name for name in vars(kind) if not name.startswith("__"))


def _attributes(place: str, namespace: Mapping[str, Any], methods: bool = True) -> Iterator[tuple[str, object]]:
    for key, value in list(namespace.items()):
        if not callable(value) or key.startswith("__"):
            continue
        yield f"{place}.{key}", value
        if methods and isinstance(value, type) and value.__module__ == place:
            yield from _attributes(f"{place}.{key}", vars(value), methods=False)


def _hooks_of(root: object) -> Iterator[tuple[str, object]]:
    if isinstance(root, nn.Module):
        for name, module in root.named_modules():
            yield f"hooks on {name or 'itself'}", [len(getattr(module, kind) or ()) for kind in _HOOKS]
            yield f"own functions of {name or 'itself'}", _own_functions(module)
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]:
            kinds = (tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None))
            yield f"hooks on tensor {name}", [len(kind or ()) for kind in kinds]
    elif isinstance(root, Optimizer):
        yield "hooks", [len(getattr(root, kind)) for kind in _OPTIMIZER_HOOKS]
        yield "own functions", _own_functions(root)
    else:
        yield "own functions", _own_functions(root)


def _own_functions(owner: object) -> dict[str, int]:
    """Functions set on an object instead of its class, which is how a method is patched for one object only."""
    kinds = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, NonCallableMock)
    return {key: id(value) for key, value in vars(owner).items() if isinstance(value, kinds)}
