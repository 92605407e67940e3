"""Dates, times, durations and time zones.

A moment in a named zone keeps its wall time, the zone's key and the fold, so that it follows the zone's rules when
rebuilt. A fixed offset is kept in the ISO text. Zones of other libraries are refused, except their UTC, which is kept
as theirs.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable
from typing import Any

from stepwell.codec.refusal import Refusal, name_of
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree

_FOREIGN_UTC = {  # class of the zone -> how its library is asked for it; only what these two lines name is ever called
    "dateutil.tz.tz.tzutc": ("dateutil.tz", "UTC"),
    "pytz.UTC": ("pytz", "utc"),
}


def _encode_datetime(value: dt.datetime, _: Encoder) -> Tree:
    return {TAG: "datetime", "v": value.replace(tzinfo=None).isoformat(), **_zone(value.tzinfo), **_fold(value.fold)}


def _decode_datetime(tree: dict[str, Tree], _: Decoder) -> dt.datetime:
    naive = dt.datetime.fromisoformat(tree["v"])
    return naive.replace(tzinfo=_unzone(tree), fold=tree.get("f", 0))


def _encode_time(value: dt.time, _: Encoder) -> Tree:
    return {TAG: "time", "v": value.replace(tzinfo=None).isoformat(), **_zone(value.tzinfo), **_fold(value.fold)}


def _decode_time(tree: dict[str, Tree], _: Decoder) -> dt.time:
    return dt.time.fromisoformat(tree["v"]).replace(tzinfo=_unzone(tree), fold=tree.get("f", 0))


def _fold(fold: int) -> dict[str, int]:
    return {"f": fold} if fold else {}


def _encode_date(value: dt.date, _: Encoder) -> Tree:
    return {TAG: "date", "v": value.isoformat()}


def _encode_timedelta(value: dt.timedelta, _: Encoder) -> Tree:
    return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _encode_zone(value: dt.tzinfo, _: Encoder) -> Tree:
    return {TAG: "zone", **_zone(value)}


def _zone(zone: dt.tzinfo | None) -> dict[str, Tree]:
    """How a zone is stored beside the wall time: `z` a key of the zone database, or `o` a fixed offset."""
    if zone is None:
        return {}
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return {"z": zone.key}
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        named = {} if zone.tzname(None) == dt.timezone(offset).tzname(None) else {"n": zone.tzname(None)}
        return {"o": [offset.days, offset.seconds, offset.microseconds], **named}
    name = name_of(type(zone))
    if name in _FOREIGN_UTC:
        return {"u": name}
    raise Refusal(
        f"has the time zone {zone!r} of type {name}, which cannot be stored",
        'use zoneinfo.ZoneInfo("Area/City") or datetime.timezone.utc: `moment.astimezone(datetime.timezone.utc)`',
    )


def _unzone(tree: dict[str, Tree]) -> dt.tzinfo | None:
    if "z" in tree:
        return _named_zone(tree["z"])
    if "o" in tree:
        offset = dt.timedelta(*tree["o"])
        if "n" in tree:
            return dt.timezone(offset, tree["n"])
        return dt.timezone(offset) if offset else dt.UTC
    return _foreign_utc(tree["u"]) if "u" in tree else None


def _named_zone(key: str) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise Refusal(
            f"is in the time zone {key!r}, which this machine does not know",
            "install the system's zone database, or the package tzdata",
        ) from error


def _foreign_utc(name: str) -> Any:
    import importlib

    module, attribute = _FOREIGN_UTC[name]
    return getattr(importlib.import_module(module), attribute)


MOMENT_ENCODERS: dict[type[Any], Callable[[Any, Encoder], Tree]] = {
    dt.datetime: _encode_datetime,
    dt.date: _encode_date,
    dt.time: _encode_time,
    dt.timedelta: _encode_timedelta,
    dt.timezone: _encode_zone,
    zoneinfo.ZoneInfo: _encode_zone,
}

MOMENT_DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {
    "datetime": _decode_datetime,
    "date": lambda tree, _: dt.date.fromisoformat(tree["v"]),
    "time": _decode_time,
    "timedelta": lambda tree, _: dt.timedelta(*tree["v"]),
    "zone": lambda tree, _: _unzone(tree),
}
