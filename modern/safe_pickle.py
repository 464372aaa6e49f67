"""Reads arrays out of foreign pickles as data: nothing a pickle names is ever imported or called.

Every allowed global is answered with a stand-in of this module that only stores what the pickle gives it; the
stand-ins become NumPy arrays afterwards. Any other global is refused by name.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch


class UnsafePickleError(ValueError):
    """A pickle refers to something that is not plain array data."""


class _DType:
    """numpy.dtype of a plain number, string or object type."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[biufcSUO]\d*|[?]", code):
            raise UnsafePickleError(f"array type {code!r} is not a plain number, string or object type")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in "<>":
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """numpy.ndarray."""

    value: np.ndarray | list[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, payload = state
        self.value = _build_array(payload, dtype, shape, "F" if is_fortran else "C")


class _SparseColumns:
    """scipy.sparse.csc_matrix, made dense here so that its indices are checked."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    @property
    def value(self) -> np.ndarray:
        state = {key: _plain(item) for key, item in self.state.items()}
        rows, columns = state["_shape"]
        dense = np.zeros((rows, columns), dtype=state["data"].dtype)
        column = np.repeat(np.arange(columns), np.diff(state["indptr"]))
        np.add.at(dense, (state["indices"], column), state["data"])
        return dense


class _Chumpy:
    """chumpy.ch.Ch, the array wrapper inside FLAME's model file: its values are entry `x` of its state."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    @property
    def value(self) -> Any:
        return _plain(self.state["x"])


def _build_array(payload: Any, dtype: _DType, shape: tuple[int, ...], order: Any) -> np.ndarray:
    if dtype.value.hasobject:
        flat = np.empty(len(payload), dtype=object)
        flat[:] = payload
    else:
        data = payload.encode("latin1") if isinstance(payload, str) else payload
        flat = np.frombuffer(data, dtype=dtype.value).copy()
    return flat.reshape(shape, order=order)


def _new_array(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, payload: Any) -> Any:
    return _build_array(payload, dtype, (), "C")[()]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise UnsafePickleError(f"bytes encoded as {encoding!r}, expected latin1")
    return text.encode("latin1")


def _new_object(kind: type, *_: Any) -> Any:
    if kind not in (_Array, _SparseColumns, _Chumpy):
        raise UnsafePickleError(f"an instance of {kind!r} is not array data")
    return kind()


def _storage(payload: bytes) -> Any:
    return torch.load(io.BytesIO(payload), weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> torch.Tensor:
    if not isinstance(storage, torch.storage.TypedStorage):
        raise UnsafePickleError(f"a tensor over {type(storage).__name__} is not array data")
    return torch._utils._rebuild_tensor(storage, offset, size, stride).clone()


_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray._reconstruct": _new_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _build_array for core in ("core", "_core")},
    **{f"scipy.sparse.{csc}.csc_{kind}": _SparseColumns for csc in ("csc", "_csc") for kind in ("matrix", "array")},
    "chumpy.ch.Ch": _Chumpy,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "copy_reg._reconstructor": _new_object,
    "copyreg._reconstructor": _new_object,
    **{f"{home}.{kind.__name__}": kind for home in ("builtins", "__builtin__") for kind in (object, set, bytes)},
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[f"{module}.{name}"]
        except KeyError:
            raise UnsafePickleError(f"refers to {module}.{name}, which is not array data") from None


def _plain(value: Any) -> Any:
    """Replace stand-ins by arrays throughout nested containers."""
    if isinstance(value, _Array | _SparseColumns | _Chumpy):
        return _plain(value.value)
    if isinstance(value, _DType):
        return value.value
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        flat = np.empty(value.size, dtype=object)
        flat[:] = [_plain(item) for item in value.ravel()]
        return flat.reshape(value.shape)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _load(file: BinaryIO, path: Path) -> Any:
    try:
        return _plain(_DataUnpickler(file, encoding="latin1").load())
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path}: refused, the pickle {error}") from error
    except Exception as error:  # a damaged pickle can fail in any way, always before anything of it has run
        raise ValueError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from error


def load_pickle(path: Path) -> Any:
    """Read a pickle of arrays in nested dicts, lists and tuples (Python 2 pickles as latin1).

    Sparse matrices become dense arrays, chumpy arrays become plain ones, torch tensors stay tensors.

    Raises:
        UnsafePickleError: if the pickle refers to anything else; nothing of it has been executed.
        ValueError: if the file is no readable pickle.
    """
    with path.open("rb") as file:
        return _load(file, path)


def load_npy_object(path: Path) -> Any:
    """Read the single pickled object of an `.npy` file of object type, with the guarantees of `load_pickle`.

    Raises:
        UnsafePickleError: as `load_pickle`.
        ValueError: if the file is no `.npy` file of exactly one object.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if not dtype.hasobject or shape != ():
            raise ValueError(f"{path}: holds {dtype} of shape {shape}, expected one pickled object")
        return _load(file, path).item()
