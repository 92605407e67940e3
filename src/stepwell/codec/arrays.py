"""numpy: scalars by their Python value, arrays by their bytes; both with the exact dtype."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from stepwell.codec.refusal import Refusal
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree

_LARGEST_ITEM = 1024 * 1024
_KINDS = "biufcMmUS"  # bool, integers, floats, complex, datetime64, timedelta64, text, bytes: what bytes alone describe


def encoder_of(cls: type[Any]) -> Callable[[Any, Encoder], Tree] | None:
    if cls is np.ndarray:
        return _encode_array
    return _encode_scalar if issubclass(cls, np.generic) else None


def _encode_array(value: np.ndarray[Any, Any], _: Encoder) -> Tree:
    _check(value.dtype)
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    data = base64.b64encode(value.tobytes(order)).decode()
    return {TAG: "ndarray", "d": value.dtype.str, "s": list(value.shape), "o": order, "v": data}


def _encode_scalar(value: np.generic, encoder: Encoder) -> Tree:
    _check(value.dtype)
    if value.dtype.kind in "Mm":  # Python's own datetimes are coarser than numpy's
        return {TAG: "numpy", "d": value.dtype.str, "v": encoder.encode(int(value.astype(np.int64)))}
    return {TAG: "numpy", "d": value.dtype.str, "v": encoder.encode(value.item())}


def _check(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in _KINDS or dtype.char in "gG":
        raise Refusal(
            f"has the numpy dtype {dtype}, which cannot be stored exactly",
            "convert it: `.astype(float)`, `.tolist()`, or one array for each field",
        )


def _dtype(text: str) -> np.dtype[Any]:
    dtype = np.dtype(text)
    _check(dtype)
    if dtype.itemsize > _LARGEST_ITEM:  # a few bytes of dtype must not ask for gigabytes
        raise Refusal(f"has the numpy dtype {dtype}, whose items have {dtype.itemsize} bytes")
    return dtype


def _decode_array(tree: dict[str, Tree], _: Decoder) -> np.ndarray[Any, Any]:
    flat = np.frombuffer(base64.b64decode(tree["v"], validate=True), _dtype(tree["d"]))
    return flat.reshape(tree["s"], order=tree["o"]).copy(tree["o"])  # a copy, because a view of bytes is read-only


def _decode_scalar(tree: dict[str, Tree], decoder: Decoder) -> Any:
    dtype = _dtype(tree["d"])
    value = decoder.decode(tree["v"])
    return np.array(value, np.int64 if dtype.kind in "Mm" else dtype).astype(dtype)[()]


DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {"ndarray": _decode_array, "numpy": _decode_scalar}
