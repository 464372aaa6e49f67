"""Stand-in networks of the detail fork with the names of the real ones, and a file such as its trainer writes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modern.weight_table import TABLES

KEYS = ["E_flame", "E_detail", "D_detail", "emoca", "D", "AUNet", "G", "global_step", "batch_size"]


class _Convolutions(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(1, 1 + index, 1) for index in range(count))


class _Generator(_Convolutions):
    def __init__(self) -> None:
        super().__init__(8)
        self.condition, self.paint = nn.Conv2d(2, 1, 1), nn.Conv2d(1, 1, 3)
        order = ("condition", "convolutions", "paint")
        self._modules = {name: self._modules[name] for name in order}  # as the real one registers them


class _ActionUnits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.BatchNorm2d(2))
        self.nodes = nn.ModuleList([nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.BatchNorm1d(2)})])


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.regressor = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))


def small_networks(seed: int = 0) -> dict[str, nn.Module]:
    """Every network of a `model.tar`, by legacy name."""
    torch.manual_seed(seed)
    networks = {
        "E_flame": _Encoder().requires_grad_(False),
        "E_detail": _Convolutions(8),
        "D_detail": _Generator(),
        "D": _Convolutions(5),
        "AUNet": _ActionUnits().requires_grad_(False),
    }
    with torch.no_grad():
        for buffer in networks["AUNet"].buffers():
            buffer += 3  # as statistics that have moved
    return networks


def adam_state(parameters: list[Tensor], lr: float, dead: int = 0) -> dict[str, Any]:
    """`state_dict` of Adam over `dead` unused and then `parameters`, after two updates."""
    generator = torch.Generator().manual_seed(1)
    every = [*(nn.Parameter(torch.zeros(1)) for _ in range(dead)), *(nn.Parameter(each.clone()) for each in parameters)]
    optimizer = torch.optim.Adam(every, lr=lr, betas=(0.5, 0.999))
    for _ in range(2):
        for parameter in every[dead:]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return optimizer.state_dict()


def legacy_content(networks: dict[str, nn.Module], step: int = 499) -> dict[str, Any]:
    """What the detail fork's trainer saves: `D` is the state of an optimizer."""
    weights = {
        name: {TABLES[name].legacy(key): value.clone() for key, value in network.state_dict().items()}
        for name, network in networks.items()
    }
    painters = [*networks["E_detail"].parameters(), *networks["D_detail"].parameters()]
    content = weights | {
        "emoca": {"deca.E_expression.layers.0.weight": torch.rand(2, 2)},
        "G": adam_state(painters, 5e-6),
        "D": adam_state(list(networks["D"].parameters()), 1e-4, dead=2),
        "global_step": step,
        "batch_size": 2,
    }
    return {key: content[key] for key in KEYS}


def legacy_tar(folder: Path, **changes: Any) -> Path:
    """Such a file on disk; `changes` replace or, if None, remove entries."""
    content = legacy_content(small_networks(seed=7)) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, folder / "model.tar")
    return folder / "model.tar"
