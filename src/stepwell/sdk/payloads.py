"""What a task takes: the payload as JSON on one side, the function's arguments on the other."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stepwell.client.checks import described, did_you_mean
from stepwell.errors import ConfigError, PayloadInvalid
from stepwell.sdk.wrong_use import source_of

if TYPE_CHECKING:
    from stepwell.sdk.schema import Schema

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class PayloadShape:
    """The payload of one function.

    It is the JSON object of the parameters by name; for a function with exactly one parameter that is itself annotated
    as an object (a model, dataclass, TypedDict or dict) it is that object. Annotations are looked at when a payload
    first comes by, so that they may name what is defined further down in the module.
    """

    def __init__(self, function: Callable[..., Any], owner: str, scope: Mapping[str, Any]) -> None:
        """`owner` begins each message; `scope` holds names that the function's module does not know."""
        self._function = function
        self._owner = owner
        self._scope = scope
        self._signature = inspect.signature(function)
        self._parameters = list(self._signature.parameters.values())
        self._check_parameters()

    def arguments(self, payload: Any) -> Arguments:
        """The arguments in a decoded JSON payload. Raises PayloadInvalid."""
        if self._sole is not None:
            if payload is None and self._sole.default is not inspect.Parameter.empty:
                return (), {}
            return self._bound({self._sole.name: self._schema.validate(payload)})
        return self._bound(self._schema.validate({} if payload is None else payload))

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str]:
        """The payload of a call with these arguments, and its content type. Raises PayloadInvalid, PayloadTooLarge."""
        from stepwell.codec.payload import JSON

        given = self._by_name(args, kwargs)
        if self._sole is None:
            return self._sized(self._schema.encode(given)), JSON
        if self._sole.name not in given and self._sole.default is inspect.Parameter.empty:
            raise self._invalid(self._sole.name, "Field required")
        return self._sized(self._schema.encode(given.get(self._sole.name, self._sole.default))), JSON

    def item(self, item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """One payload of a batch as a call: parameters by name, or the needed one's value. Raises PayloadInvalid."""
        if self._sole is not None:
            return (), {self._sole.name: item}
        if isinstance(item, Mapping):
            return (), typing.cast("Mapping[str, Any]", item)
        if self._needed is not None:
            return (), {self._needed: item}
        names = ", ".join(parameter.name for parameter in self._parameters)
        raise self._invalid("", f"expected a mapping of the parameters by name ({names}), got {described(item)}")

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the payload. Raises ConfigError when no JSON can fill a parameter."""
        return self._schema.json_schema()

    def _sized(self, encoded: bytes) -> bytes:
        from stepwell.codec.payload import check_size

        check_size(encoded, f"payload of {self._owner}")
        return encoded

    def takes(self, *kinds: Any) -> bool:
        """Whether the payload is one value that is annotated with one of these."""
        return self._sole is not None and self._annotations.get(self._sole.name) in kinds

    # ---- how a call and its names relate ----

    @cached_property
    def _sole(self) -> inspect.Parameter | None:
        """The one parameter whose value is the payload itself."""
        from stepwell.sdk.schema import is_object

        if len(self._parameters) != 1 or self._parameters[0].kind is inspect.Parameter.VAR_KEYWORD:
            return None
        only = self._parameters[0]
        return only if is_object(self._annotations.get(only.name, Any)) else None

    @property
    def sole_name(self) -> str | None:
        return None if self._sole is None else self._sole.name

    @property
    def _needed(self) -> str | None:
        """The name of the only parameter, or of the only one without a default."""
        named = [p for p in self._parameters if p.name != self._extra]
        required = [p for p in named if p.default is inspect.Parameter.empty]
        chosen = named if len(named) == 1 else required
        return chosen[0].name if len(chosen) == 1 else None

    @property
    def _extra(self) -> str | None:
        """The name of `**kwargs`, when there is one."""
        last = self._parameters[-1] if self._parameters else None
        return last.name if last is not None and last.kind is inspect.Parameter.VAR_KEYWORD else None

    def _by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = [parameter.name for parameter in self._parameters if parameter.name != self._extra]
        for name in kwargs:
            if name not in names and self._extra is None:
                raise self._invalid(
                    name, did_you_mean(name, names) or f"there is no such parameter; {self._known(names)}"
                )
        positional = [p.name for p in self._parameters if p.kind is not p.KEYWORD_ONLY and p.name != self._extra]
        if len(args) > len(positional):
            raise self._invalid("", f"got {len(args)} positional arguments for {len(positional)} parameters")
        given = dict(zip(positional, args, strict=False))
        twice = next((name for name in kwargs if name in given), None)
        if twice is not None:
            raise self._invalid(twice, "given twice, by place and by name")
        return {**given, **kwargs}

    def _bound(self, values: Mapping[str, Any]) -> Arguments:
        """Arguments by place where a parameter has no other way, by name else."""
        by_place = [p.name for p in self._parameters if p.kind is p.POSITIONAL_ONLY and p.name in values]
        return tuple(values[name] for name in by_place), {k: v for k, v in values.items() if k not in by_place}

    def _known(self, names: list[str]) -> str:
        return f"the parameters are: {', '.join(names)}" if names else "the task has no parameters"

    # ---- what the annotations say ----

    @cached_property
    def _schema(self) -> Schema:
        from stepwell.sdk.schema import FieldsSchema, ObjectSchema

        sole = self._sole
        if sole is not None:
            return ObjectSchema(self._owner, self._annotations[sole.name])
        fields = {
            parameter.name: (self._annotations.get(parameter.name, Any), parameter.default)
            for parameter in self._parameters
            if parameter.name != self._extra
        }
        return FieldsSchema(self._owner, fields, open_ended=self._extra is not None)

    @cached_property
    def _annotations(self) -> dict[str, Any]:
        """The parameters' annotations with names resolved; the return annotation may stay unresolvable."""
        raw = {p.name: p.annotation for p in self._parameters if p.annotation is not inspect.Parameter.empty}
        scope = {**self._scope, **inspect.getclosurevars(self._function).nonlocals}
        try:
            holder = SimpleNamespace(__annotations__=raw)
            return typing.get_type_hints(holder, self._function.__globals__, scope, include_extras=True)
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            raise ConfigError(
                f"{self._owner} ({source_of(self._function)}) has an annotation that cannot be resolved: {error}",
                hint="import the name at run time (not under `if TYPE_CHECKING:`), and define it at module level",
            ) from error

    def _check_parameters(self) -> None:
        where = f"{self._owner} ({source_of(self._function)})"
        for position, parameter in enumerate(self._parameters):
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise ConfigError(
                    f"{where} takes *{parameter.name}", hint=f"a payload has names: take `{parameter.name}: list[...]`"
                )
            if position == 0 and parameter.name in {"self", "cls"} and "." in self._function.__qualname__:
                raise ConfigError(
                    f"{where} is a method, and its {parameter.name!r} cannot come from a payload",
                    hint="put @task on a module-level function, or below @staticmethod",
                )

    def _invalid(self, field: str, reason: str) -> PayloadInvalid:
        at = f"{field}: " if field else ""
        return PayloadInvalid(
            f"payload of {self._owner} does not fit: {at}{reason}", problems=[{"field": field, "reason": reason}]
        )
