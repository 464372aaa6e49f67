import json
import os

import pytest
import torch

from parity.environment import fingerprint, fix_numerics, isolated_numerics, platform_key


def switches():
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_fingerprint_is_text_and_complete():
    entries = fingerprint()
    assert json.loads(json.dumps(entries)) == entries
    assert {"python", "torch", "torch commit", "torchvision", "pytorch3d", "numpy", "mkl", "onednn"} <= entries.keys()
    assert {"cpu", "cpu capability", "threads", "deterministic algorithms", "os", "gpu"} <= entries.keys()
    assert entries["torch"] == torch.__version__
    assert entries["cpu"] != ""


def test_fingerprint_reports_kernel_choosing_variables(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    assert fingerprint()["variable MKL_CBWR"] == "AVX2,STRICT"
    monkeypatch.delenv("MKL_CBWR")
    assert "variable MKL_CBWR" not in fingerprint()


def test_platform_key_names_machine_vector_width_and_torch():
    key = platform_key()
    assert key.startswith("cpu-")
    assert key.endswith(f"-torch{torch.__version__.split('+')[0]}")
    assert torch.backends.cpu.get_cpu_capability().lower().replace(" ", "") in key.split("-")
    assert "/" not in key
    assert " " not in key


def test_switches_are_set_and_put_back():
    before = switches()
    with isolated_numerics(threads=2, deterministic=True) as reported:
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
        assert reported["threads"] == "2"
        assert reported["variable CUBLAS_WORKSPACE_CONFIG"] == os.environ["CUBLAS_WORKSPACE_CONFIG"]
        torch.backends.cudnn.benchmark = True  # as importing the legacy trainer does
    assert switches() == before


def test_switches_are_put_back_after_an_error():
    before = switches()
    with pytest.raises(RuntimeError, match="inside"), isolated_numerics(threads=2):
        raise RuntimeError("inside")
    assert switches() == before


def test_fix_numerics_can_leave_determinism_off():
    with isolated_numerics():
        assert fix_numerics(deterministic=False)["deterministic algorithms"] == "False"
        assert not torch.are_deterministic_algorithms_enabled()
