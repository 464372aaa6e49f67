"""Summaries and recordings: what they must see, and what they must say when damaged."""

import json
import math

import pytest
import torch
from safetensors import safe_open

from parity.comparison import compare
from parity.recording import RecordingError, RecordingMissing, read_recording, write_recording
from parity.summary import LIMIT, compare_summary, stored_tensor, summarise
from parity.trace import Trace


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flipped_bit(x, rows):
    bits = x.clone().view(torch.int32)
    bits[rows, 0] ^= 1 << 10
    return bits.view(torch.float32)


def moved(x, target=torch.inf):
    y = x.clone()
    y[17, 31] = torch.nextafter(y[17, 31], torch.tensor(target))
    return y


def swapped(x):
    y = x.clone()
    y[1, 2], y[50, 77] = x[50, 77], x[1, 2]
    return y


# The seven mutations that cheap fingerprints of other tools do not all see (one 64 x 128 tensor).
MUTATIONS = {
    "permuted rows": lambda x: x.flip(0),
    "transposed content": lambda x: x.T.reshape(x.shape),
    "negated": lambda x: -x,
    "two elements swapped": swapped,
    "halves swapped": lambda x: torch.cat([x[32:], x[:32]]),
    "one ULP in one element": moved,
    "the same bit flipped in two words": lambda x: flipped_bit(x, [3, 9]),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_summary_sees_every_mutation(name):
    x = noise(64, 128)
    changed = MUTATIONS[name](x)
    drift = compare_summary(summarise(x), changed)
    assert not drift.bitwise
    assert drift.rel_l2 > 0
    assert compare_summary(summarise(x), x.clone()).bitwise


@pytest.mark.parametrize("name", ["permuted rows", "transposed content", "negated", "halves swapped"])
def test_relative_l2_is_estimated_over_all_elements(name):
    x = noise(512, 600)
    changed = MUTATIONS[name](x)
    truth = compare(x, changed)
    drift = compare_summary(summarise(x), changed)
    assert drift.rel_l2 == pytest.approx(truth.rel_l2, rel=4 / math.sqrt(2 * LIMIT / 4))  # 4 standard errors
    assert drift.max_abs <= truth.max_abs
    assert drift.mean_signed == pytest.approx(truth.mean_signed, abs=1e-9)


def test_a_change_outside_the_sample_is_still_measured():
    x = noise(300, 300)
    changed = x.clone()
    changed[0, 1] += 5.0  # flat index 1 is not among 4096 evenly spaced ones of 90000
    drift = compare_summary(summarise(x), changed)
    assert drift.rel_l2 == pytest.approx(5.0 / float(x.norm()), rel=1e-4)
    assert 0 < drift.max_abs <= 5.0


def test_small_and_integer_tensors_are_kept_whole():
    small = noise(64, 64)
    assert torch.equal(stored_tensor(summarise(small)), small)
    ids = torch.randint(-1, 9976, (224, 224))
    stored = summarise(ids)
    assert stored["narrow"].dtype == torch.int16
    assert stored_tensor(stored).dtype == torch.int64
    other = ids.clone()
    other[0, 3] += 1
    assert compare_summary(stored, other).differing == 1


def test_sample_holds_both_ends():
    x = noise(100_001)
    sample = summarise(x)["sample"]
    assert len(sample) == LIMIT
    assert (sample[0], sample[-1]) == (x[0], x[-1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.T.contiguous(), "shape"),
        (lambda x: x.double(), "dtype"),
        (lambda x: x.index_fill(0, torch.tensor([7]), math.nan), "NaN"),
    ],
)
def test_structural_differences_of_a_summary_are_named(change, reason):
    x = noise(100, 90)
    assert reason in compare_summary(summarise(x), change(x)).structural


def example():
    trace = Trace(subject="legacy", structure={"loss_keys": ["b", "a"]}, draws=[{"op": "dropout", "shape": [1, 4]}])
    trace.put("encoder", {"parameters": noise(3, 236), "global_feature": noise(3, 2048)})
    trace.put("raster", {"face_ids": torch.randint(-1, 99, (20, 20))})
    trace.put("losses", {"all_loss": torch.tensor(3.5)}, step=1)
    trace.extras["dropout_masks"] = torch.ones(9, dtype=torch.uint8)
    return trace


def test_a_trace_comes_back_as_it_was(tmp_path):
    trace = example()
    trace.extras["view"] = noise(6, 6)[:, ::2]  # strided memory, which safetensors refuses
    write_recording(trace, tmp_path / "new")
    again = read_recording(tmp_path / "new").trace()
    assert list(again.tensors) == list(trace.tensors)
    assert all(torch.equal(again.tensors[key], value) for key, value in trace.tensors.items())
    assert again.tensors["raster/face_ids"].dtype == torch.int64
    assert (again.subject, again.structure, again.draws) == (trace.subject, trace.structure, trace.draws)
    assert torch.equal(again.extras["view"], trace.extras["view"])


def test_equal_traces_give_equal_bytes_and_one_metadata_key(tmp_path):
    for name in ("a", "b"):
        write_recording(example_fixed(), tmp_path, name)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert list(file.metadata()) == ["parity"]


def example_fixed():
    trace = example()
    trace.tensors["raster/face_ids"] = torch.arange(400).reshape(20, 20)
    return trace


def test_large_tensors_can_be_summarised(tmp_path):
    trace = example()
    write_recording(trace, tmp_path, limit=lambda key: 256 if key.startswith("encoder") else None)
    recording = read_recording(tmp_path)
    assert "encoder/global_feature" not in recording.trace().tensors
    assert recording.compare("encoder/global_feature", trace.tensors["encoder/global_feature"]).bitwise
    assert not recording.compare("encoder/global_feature", trace.tensors["encoder/global_feature"] + 1).bitwise


def test_a_missing_recording_is_told_apart(tmp_path):
    with pytest.raises(RecordingMissing, match="record it first"):
        read_recording(tmp_path)
    write_recording(example(), tmp_path)
    (tmp_path / "manifest.safetensors").unlink()
    with pytest.raises(RecordingMissing, match=r"manifest\.safetensors is missing"):
        read_recording(tmp_path)


def test_truncation_and_corruption_are_said(tmp_path):
    write_recording(example(), tmp_path)
    path = tmp_path / "manifest.safetensors"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-10])
    with pytest.raises(RecordingError, match=r"truncated .* bytes.*record it again"):
        read_recording(tmp_path)
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="corrupt"):
        read_recording(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "not valid JSON"), ("[]", "schema 'list'"), ('{"schema": 99}', "schema 99")]
)
def test_a_damaged_manifest_is_said(tmp_path, text, reason):
    write_recording(example(), tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RecordingError, match=reason):
        read_recording(tmp_path)


def test_what_cannot_be_recorded_leaves_the_old_recording_alone(tmp_path):
    write_recording(example_fixed(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = example()
    broken.structure["odd"] = object()
    with pytest.raises(TypeError, match="cannot hold object"):
        write_recording(broken, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert json.loads(before["manifest.json"])["subject"] == "legacy"
