"""What a fingerprint must see (the table of cheap hashes that do not), and what it must not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import fingerprint as module
from parity.fingerprint import content, fingerprint

SIZES = [(64, 128), (700, 1000)]  # torch's operations, compiled code
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int16, torch.uint8]


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def swapped(x):
    y = x.clone()
    y[0, 0], y[1, 1] = x[1, 1], x[0, 0]
    return y


def moved(x):
    y = x.clone()
    y[5, 5] = torch.nextafter(y[5, 5], torch.tensor(torch.inf))
    return y


def flipped(x):
    y = x.clone()
    y.view(torch.int32).view(-1)[[3, 9]] ^= 1 << 12
    return y


MUTATIONS = {
    "permuted rows": lambda x: x.flip(0),
    "transposed content": lambda x: x.T.reshape(x.shape),
    "negated": lambda x: -x,
    "two elements swapped": swapped,
    "halves swapped": lambda x: torch.cat([x[len(x) // 2 :], x[: len(x) // 2]]),
    "one ULP in one element": moved,
    "the same bit flipped in two words": flipped,
    "another shape": lambda x: x.reshape(-1),
    "another dtype": lambda x: x.view(torch.int32),
    "one element more": lambda x: torch.cat([x.reshape(-1), torch.zeros(1)]),
    "the other zero": lambda x: torch.where(x == x[0, 0], -torch.zeros(()), x),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_seen(name, size):
    x = noise(*size)
    if name == "the other zero":
        x[0, 0] = 0.0
    assert fingerprint(MUTATIONS[name](x)) != fingerprint(x)
    assert fingerprint(x.clone()) == fingerprint(x)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool, torch.complex64, torch.complex128])
@pytest.mark.parametrize("size", SIZES)
def test_strides_do_not_matter_and_nothing_is_touched(dtype, size):
    x = (noise(*size) * 50).clamp(min=0).to(dtype)
    copy, version = x.clone(), x._version
    across = x.t().contiguous().t()
    apart = torch.zeros(size[0], 2 * size[1], dtype=dtype)[:, ::2]
    apart.copy_(x)
    assert fingerprint(across) == fingerprint(apart) == fingerprint(x)
    assert fingerprint(x.flip(1)) != fingerprint(x)
    assert torch.equal(x, copy)
    assert x._version == version


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_code_and_torch_operations_give_one_value(dtype, monkeypatch):
    x = (noise(1_300_000) * 50).abs().to(dtype)  # more than one chunk
    compiled = content(x)
    monkeypatch.setattr(module, "_COMPILED", 1 << 60)
    assert content(x) == compiled


def test_the_definition_stays_as_recordings_hold_it():
    assert fingerprint(torch.arange(5)) == "52e117c8b319a89d"
    assert content(torch.arange(3_000_000, dtype=torch.int32)) == 1341847030845118196


def test_changes_in_different_chunks_are_told_apart():
    found = set()
    for place in (0, (1 << 20) + 5, 2 << 20):
        x = torch.zeros(3 << 20, dtype=torch.uint8)
        x[place] = 1
        found.add(fingerprint(x))
    assert len(found) == 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=12), st.randoms())
def test_another_order_is_another_fingerprint(values, random):
    other = values.copy()
    random.shuffle(other)
    one, two = (fingerprint(torch.tensor(side, dtype=torch.uint8)) for side in (values, other))
    assert (one == two) == (values == other)


def test_empty_and_scalar_tensors():
    prints = [fingerprint(torch.zeros(shape)) for shape in ((), (1,), (0,), (0, 3), (3, 0))]
    assert len(set(prints)) == len(prints)


def test_a_sparse_tensor_is_refused():
    with pytest.raises(ValueError, match="dense"):
        fingerprint(torch.eye(3).to_sparse())


def test_bits_are_spread_evenly():
    words = [int(fingerprint(torch.tensor([number])), 16) for number in range(2000)]
    ones = np.array([[word >> bit & 1 for bit in range(64)] for word in words]).mean(axis=0)
    assert abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(2000)  # 5 standard errors


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gpu_gives_the_same_value(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = (noise(1100, 1200) * 50).abs().to(dtype)
    assert fingerprint(x.cuda()) == fingerprint(x)
    assert fingerprint(x.cuda().t()) == fingerprint(x.t())
