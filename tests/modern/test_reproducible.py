"""Each level's claim in fresh processes, bit for bit, with the control that fails without it."""

import json
import os
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from modern.reproducible import LEVELS, NotReproducible, reproducible
from tests.modern.reproducible_run import run

ROOT = Path(__file__).resolve().parents[2]


def fresh(threads=1, **options):
    """The digest of a run in a new process."""
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "tests.modern.reproducible_run", json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _hash_seed(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")


@pytest.fixture(scope="module")
def reference():
    return fresh(level="same machine")


def test_same_process_whatever_drew_before():
    first = run("same process")
    random.random(), np.random.rand(), torch.rand(1)
    assert run("same process", workers=2) == first


def test_without_the_context_two_runs_differ():
    assert run(context=False) != run(context=False)


def test_same_machine_in_fresh_processes_with_other_workers(reference):
    assert fresh(level="same machine") == reference
    assert fresh(level="same machine", workers=2) == reference


def test_without_the_context_fresh_processes_differ():
    assert fresh(context=False) != fresh(context=False)


def test_same_machine_across_save_and_resume(reference, tmp_path):
    file = str(tmp_path / "state.pt")
    fresh(level="same machine", steps=2, save=file)
    assert fresh(level="same machine", resume=file, workers=2) == reference
    assert fresh(level="same machine", resume=file, disturb=True) != reference, "without the generators it differs"


def test_any_threads_and_that_threads_matter_otherwise():
    assert fresh(level="any threads", threads=1) == fresh(level="any threads", threads=2)
    assert fresh(level="same machine", threads=1) != fresh(level="same machine", threads=2)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("fails", [False, True])
def test_everything_global_is_put_back(level, fails):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = _global_state()
    expected = pytest.raises(ZeroDivisionError) if fails else nullcontext()
    with expected, reproducible(0, level):
        random.random(), np.random.rand(), torch.rand(1)
        assert _global_state() != before
        if fails:
            raise ZeroDivisionError
    assert _global_state() == before
    torch.set_num_threads(threads)


def _global_state():
    return (
        *(
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
        ),
        *(torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), dict(os.environ)),
    )


def test_fetching_items_moves_no_generator():
    with reproducible(0, "same process") as recipe:
        loader, _ = recipe.loader([1, 2, 3], batch_size=1)
        before = _global_state()
        assert sorted(int(item) for item in loader) == [1, 2, 3]
        assert _global_state() == before


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("any machine", "cannot be promised: processors"),
        ("any device", "cannot be promised: CPU and CUDA"),
        ("forever", "unknown level 'forever'; known: same process, same machine, any threads"),
    ],
)
def test_what_no_platform_gives_is_refused(level, words):
    with pytest.raises(NotReproducible, match=words), reproducible(0, level):
        pass


def test_what_this_process_cannot_give_is_refused(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    with pytest.raises(NotReproducible, match="PYTHONHASHSEED=0"), reproducible(0, "same machine"):
        pass
    with reproducible(0, "same process"):
        pass
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("OMP_DYNAMIC", "TRUE")
    with pytest.raises(NotReproducible, match="OMP_DYNAMIC"), reproducible(0, "same machine"):
        pass
    with pytest.raises(NotReproducible, match="one thread, 2 were asked"), reproducible(0, "any threads", threads=2):
        pass


def test_a_state_of_another_seed_is_refused():
    with reproducible(0, "same process") as recipe:
        state = recipe.state()
    with reproducible(1, "same process") as recipe, pytest.raises(NotReproducible, match="of seed 0"):
        recipe.resume(state)


@pytest.mark.gpu
@pytest.mark.skipif("not torch.cuda.is_available()", reason="no CUDA device here")
def test_an_operation_without_a_deterministic_kernel_raises_on_cuda():
    grid = torch.zeros(1, 4, 4, 2, device="cuda", requires_grad=True)
    with reproducible(0, "same process"), pytest.raises(RuntimeError, match="deterministic"):
        torch.nn.functional.grid_sample(
            torch.ones(1, 1, 4, 4, device="cuda"), grid, align_corners=False
        ).sum().backward()
