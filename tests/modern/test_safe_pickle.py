import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from scipy import sparse

from modern.safe_pickle import UnsafePickleError, load_npy_object, load_pickle

ARRAYS = {
    "float": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big_endian": np.arange(5, dtype=">i4"),
    "unsigned": np.array([2**32 - 1, 0], dtype=np.uint32),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "bool": np.array([True, False]),
}


def dump(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.fixture
def chumpy_class(monkeypatch):
    """A class that pickles under chumpy's name, as FLAME's released model holds its shape directions."""
    module = types.ModuleType("chumpy.ch")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return module.Ch


class Evil:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(tmp_path, name, protocol):
    loaded = load_pickle(dump(tmp_path / "a.pkl", {"x": ARRAYS[name]}, protocol))["x"]
    np.testing.assert_array_equal(loaded, ARRAYS[name], strict=True)


def test_containers_scalars_and_object_arrays_come_back(tmp_path):
    value = {"a": [1, (np.float64(2.5), "text")], "b": np.array([np.arange(3), "x"], dtype=object)}
    loaded = load_pickle(dump(tmp_path / "a.pkl", value))
    assert loaded["a"] == value["a"]
    np.testing.assert_array_equal(loaded["b"][0], np.arange(3))
    assert loaded["b"][1] == "x"


@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csc_array])
def test_a_sparse_matrix_becomes_dense(tmp_path, kind):
    dense = np.array([[0, 1.5, 0], [2.5, 0, 0]])
    np.testing.assert_array_equal(load_pickle(dump(tmp_path / "a.pkl", kind(dense))), dense)


def test_sparse_indices_are_checked(tmp_path):
    matrix = sparse.csc_matrix(np.eye(2))
    matrix.indices[0] = 7
    with pytest.raises(ValueError, match="not a readable pickle"):
        load_pickle(dump(tmp_path / "a.pkl", matrix))


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_chumpy_array_gives_its_values(tmp_path, chumpy_class, protocol):
    wrapped = chumpy_class()
    wrapped.__dict__.update(x=np.arange(3.0), _dirty_vars=set())
    loaded = load_pickle(dump(tmp_path / "a.pkl", {"shapedirs": wrapped}, protocol))
    np.testing.assert_array_equal(loaded["shapedirs"], np.arange(3.0))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_torch_tensor_comes_back(tmp_path, protocol):
    tensor = torch.arange(6.0).view(2, 3).T
    assert torch.equal(load_pickle(dump(tmp_path / "a.pkl", tensor, protocol)), tensor)


def test_code_is_never_executed(tmp_path):
    target = tmp_path / "executed"
    path = dump(tmp_path / "evil.pkl", {"f": Evil(target)})
    with pytest.raises(UnsafePickleError, match=r"evil\.pkl.*posix\.system"):
        load_pickle(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())  # the control: an ordinary unpickler does execute it
    assert target.exists()


def test_code_inside_an_object_file_is_never_executed(tmp_path):
    target = tmp_path / "executed"
    np.save(tmp_path / "evil.npy", np.array({"f": Evil(target)}, dtype=object), allow_pickle=True)
    with pytest.raises(UnsafePickleError, match="system"):
        load_npy_object(tmp_path / "evil.npy")
    assert not target.exists()


def test_code_inside_a_tensor_storage_is_never_executed(tmp_path):
    target = tmp_path / "executed"

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Evil(target), protocol=2),)

    with pytest.raises(ValueError, match="not a readable pickle"):
        load_pickle(dump(tmp_path / "evil.pkl", Storage()))
    assert not target.exists()


@pytest.mark.parametrize("harmless", [np.dtype([("a", "f8")]), print, complex, bytearray(2)], ids=repr)
def test_everything_else_is_refused(tmp_path, harmless):
    with pytest.raises(ValueError, match=r"a\.pkl"):
        load_pickle(dump(tmp_path / "a.pkl", harmless))


def test_a_damaged_pickle_says_so(tmp_path):
    path = dump(tmp_path / "a.pkl", ARRAYS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.pkl: not a readable pickle"):
        load_pickle(path)


def test_an_object_file_holds_one_object(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"x": torch.arange(3)}, dtype=object), allow_pickle=True)
    assert torch.equal(load_npy_object(tmp_path / "a.npy")["x"], torch.arange(3))
    np.save(tmp_path / "b.npy", np.arange(3))
    with pytest.raises(ValueError, match="expected one pickled object"):
        load_npy_object(tmp_path / "b.npy")
