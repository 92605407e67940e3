"""Kinds of objects that may be kept for good without anybody noticing, if what they hold may.

Nothing happens at their end, and nobody waits for it. What is not known to be so is not.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import decimal
import fractions
import functools
import itertools
import operator
import random
import re
import types
import uuid
import weakref
import zoneinfo
from contextvars import ContextVar, Token
from pathlib import PurePath
from typing import Any, cast

import msgspec

from stepwell.sdk.breaker import Breaker
from stepwell.sdk.limiter import Limiter
from stepwell.sdk.queues import Queue
from stepwell.sdk.schedules import Schedule
from stepwell.sdk.schema import Schema
from stepwell.sdk.semaphore import Semaphore
from stepwell.sdk.triggers import Triggers

_LEAVES: tuple[Any, ...] = (
    *(int, float, complex, bool, str, bytes, range, slice, type(None), type(...), type(NotImplemented)),
    *(type, types.ModuleType, types.CodeType, types.WrapperDescriptorType, types.MethodDescriptorType, ContextVar),
    *(types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType, types.GenericAlias),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo),
    *(decimal.Decimal, decimal.Context, fractions.Fraction, uuid.UUID, re.Pattern, weakref.ref, types.UnionType),
)
_HOLDERS: tuple[Any, ...] = (
    *(list, tuple, dict, set, frozenset, bytearray, types.MappingProxyType, types.CellType, types.MethodType),
    *(collections.deque, collections.defaultdict, collections.OrderedDict, types.MethodWrapperType),
    *(types.BuiltinFunctionType, types.MethodDescriptorType),
    *(functools.partial, operator.itemgetter, operator.attrgetter, staticmethod, classmethod, property, object),
    *(asyncio.Future, asyncio.Task, asyncio.Handle, asyncio.TimerHandle, Token, random.Random, re.Match, BaseException),
    *(enumerate, zip, map, filter, reversed, itertools.count, itertools.cycle, itertools.repeat, itertools.chain),
    *(itertools.islice, itertools.product, *msgspec.Struct.__mro__),
)
_MAP: Any = {}
_VIEWS: tuple[Any, ...] = (_MAP.keys(), _MAP.values(), _MAP.items())
_ITERATED: tuple[Any, ...] = (
    (),
    list[int](),
    set[int](),
    _MAP,
    *_VIEWS,
    range(0),
    range(2**70),
    "",
    "é",
    b"",
    bytearray(),
)
_REVERSED: tuple[Any, ...] = (list[int](), _MAP, *_VIEWS, range(0))
_MADE = (*_VIEWS, *map(iter, _ITERATED), *map(reversed, _REVERSED), iter(int, 0))

LEAVES: frozenset[type] = frozenset(_LEAVES)
"""What is behind these need not be looked at."""
HOLDERS: frozenset[type] = frozenset([*_HOLDERS, *map(type, _MADE)])
"""What these hold is."""
DECLARED = (type, types.ModuleType, Triggers, Schema, Queue, Schedule, Breaker, Limiter, Semaphore)
"""Made once, when modules are imported."""
AWAITING = frozenset({"coroutine_wrapper", "FutureIter", "async_generator_asend", "anext_awaitable"})
"""The interpreter makes these around what is awaited."""

_python: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def why_not_kept(each: Any) -> str | None:
    """What speaks against keeping this object of a class that is in none of the lists."""
    kind = cast("type[Any]", type(each))
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not _is_python(kind):
        return f"an object of {name}"
    if hasattr(kind, "__del__"):
        return f"an object with __del__, of {name}"
    if _is_manager(kind):
        return f"a context manager, of {name}"
    if weakref.getweakrefcount(each) and not isinstance(each, asyncio.Future):
        return f"a weak reference to an object of {name}"
    return None


def _is_manager(kind: type[Any]) -> bool:
    """It may have been entered by hand. asyncio's own are made in the run, and a path only looks like one."""
    manages = hasattr(kind, "__exit__") or hasattr(kind, "__aexit__")
    return manages and not kind.__module__.startswith("asyncio.") and not issubclass(kind, PurePath)


def _is_python(kind: type[Any]) -> bool:
    """Whether all of it is written in Python, but for what of it is in the lists."""
    known = _python.get(kind)
    if known is None:
        known = _python[kind] = all(_is_listed(base) or _is_written(base) for base in kind.__mro__)
    return known


def _is_listed(kind: type[Any]) -> bool:
    return kind in HOLDERS or kind in LEAVES


def _is_written(kind: type[Any]) -> bool:
    """`type` puts `__slots__`, `__weakref__` or `__dict__` into a class that it makes of a `class` statement, unless a
    base of it has that already. Classes of extensions have none of the first two."""
    if issubclass(kind, BaseException) and kind.__module__ == "builtins":
        return True
    own = vars(kind)
    if "__slots__" in own or "__weakref__" in own:
        return True
    bases = [base for base in kind.__bases__ if base is not object]
    written = [base for base in bases if not _is_listed(base)]
    return bool(written or (bases and "__dict__" in own)) and all(_is_written(base) for base in written)
