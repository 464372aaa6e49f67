"""What the numbers of a run depend on besides code and input: libraries, processor, threads, numeric switches."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch

from modern.numerics import CUBLAS, numeric_state, restore_numerics, set_numerics

# Variables that choose kernels, vector widths, thread counts or devices.
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "PYTHONHASHSEED",
    "PYTORCH_CUDA_ALLOC_CONF",
)


def fingerprint() -> dict[str, str]:
    """Everything that may explain a difference between two machines or days, as sorted text entries."""
    return dict(sorted({**_software(), **_processor(), **_switches(), **_gpu(), **_variables()}.items()))


def platform_key(device: str = "cpu") -> str:
    """Name of the folder of goldens that claim to hold here, such as `cpu-x86_64-avx512-torch2.12.1`.

    Processor model, thread count and minor libraries are left to the fingerprint: they may move the last bits, which
    the noise floor covers, but do not make a golden meaningless.
    """
    version = torch.__version__.split("+")[0]
    if torch.device(device).type == "cuda":
        name = re.sub(r"[^a-z0-9]+", "_", torch.cuda.get_device_name(device).lower()).strip("_")
        return f"cuda-{name}-torch{version}"
    capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "")
    return f"cpu-{platform.machine().lower()}-{capability}-torch{version}"


def fix_numerics(threads: int = 1, deterministic: bool = True) -> dict[str, str]:
    """Set the process's numeric switches and say what was set.

    Where CUDA is present an operation without a deterministic kernel (grid_sample and pytorch3d backward) warns instead
    of raising, since the model cannot run without it.

    Args:
        threads: threads inside an operation. With 2 or more, vertex gradients race on the CPU unless `deterministic`.
        deterministic: use deterministic algorithms only.
    """
    set_numerics(threads, deterministic=deterministic, warn_only=torch.cuda.is_available())
    return {**_switches(), f"variable {CUBLAS}": os.environ[CUBLAS]}


@contextmanager
def isolated_numerics(threads: int = 1, deterministic: bool = True) -> Iterator[dict[str, str]]:
    """`fix_numerics` for the length of a `with` block; every switch is put back afterwards, also after an error."""
    before = numeric_state()
    try:
        yield fix_numerics(threads, deterministic)
    finally:
        restore_numerics(before)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _software() -> dict[str, str]:
    config = torch.__config__.show()
    return {
        "os": platform.platform(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torch commit": str(getattr(torch.version, "git_version", "unknown")),
        "torchvision": _version("torchvision"),
        "pytorch3d": _version("easypytorch3d"),
        "numpy": _version("numpy"),
        "mkl": _found(r"Math Kernel Library Version (\S+)", config),
        "onednn": _found(r"MKL-DNN v(\S+)", config),
        "blas": _found(r"BLAS_INFO=(\w+)", config),
    }


def _processor() -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo")
    model = _found(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else platform.processor()
    return {
        "cpu": model,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "cpu cores": str(os.cpu_count()),
        "machine": platform.machine(),
    }


def _switches() -> dict[str, str]:
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    return {
        "threads": str(torch.get_num_threads()),
        "deterministic algorithms": f"{deterministic}{' (warn only)' if deterministic and warns else ''}",
        "cudnn benchmark": str(torch.backends.cudnn.benchmark),
        "cudnn deterministic": str(torch.backends.cudnn.deterministic),
        "cudnn tf32": str(torch.backends.cudnn.allow_tf32),
        "matmul precision": torch.get_float32_matmul_precision(),
    }


def _gpu() -> dict[str, str]:
    if not torch.cuda.is_available():
        return {"gpu": "none"}
    properties = torch.cuda.get_device_properties(0)
    driver = Path("/proc/driver/nvidia/version")
    return {
        "gpu": f"{properties.name} (sm_{properties.major}{properties.minor}, {torch.cuda.device_count()} visible)",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "gpu driver": _found(r"Module\s+(?:for \S+\s+)?([\d.]+)", driver.read_text()) if driver.exists() else "unknown",
    }


def _variables() -> dict[str, str]:
    return {f"variable {name}": os.environ[name] for name in _VARIABLES if name in os.environ}


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else "unknown"
