"""How an exception is stored and rebuilt: the `exc` tag.

Rebuilt without running a Python `__init__`, which may want arguments that nobody kept; the part of the class that is
in C (OSError's errno, UnicodeDecodeError's position) is initialised from the args it reports itself. Letters in the
tree: c class, n its name when it cannot be imported, b importable bases, m text, a args, i args of the C part, d
attributes, s attributes in C, l lost attributes, o notes, t frames, g group members, k cause, x context, u context
suppressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MemberDescriptorType
from typing import Any, cast

from stepwell.codec.classes import reference, resolve
from stepwell.codec.refusal import Refusal, attribute, name_of
from stepwell.codec.standin import MESSAGE, StoredClass, stand_in, stored_class
from stepwell.codec.text import to_text
from stepwell.codec.tracebacks import RecordedTraceback, frames_text, members_of, notes_of
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree, class_of

_CHAIN = 5  # causes and contexts beyond this many are left out
_MOST_ATTRIBUTE = 65_536  # bytes: an error must not fail to be stored because it carries the document that it was about
_HIDDEN = frozenset({"__notes__", MESSAGE})
# What these classes keep in C beside their args. AttributeError's `obj` and such are left out: they can be anything.
_C_ATTRIBUTES = ((ImportError, ("name", "path")), (NameError, ("name",)), (AttributeError, ("name",)))


def encode_exc(error: BaseException, encoder: Encoder) -> Tree:
    return _encode(error, encoder, _CHAIN)


def decode_exc(tree: dict[str, Tree], decoder: Decoder) -> BaseException:
    error = _from_pydantic(tree, decoder) if "p" in tree else _rebuilt(tree, decoder)
    for note in tree.get("o", ()):
        error.add_note(note)
    if tree.get("t"):
        error.add_note(RecordedTraceback.of(tree["t"]))
    if "k" in tree:
        error.__cause__ = decode_exc(tree["k"], decoder)
    if "x" in tree:
        error.__context__ = decode_exc(tree["x"], decoder)
    error.__suppress_context__ = bool(tree.get("u", False))
    return error


# --- storing


def _encode(error: BaseException, encoder: Encoder, chain: int) -> Tree:
    stored = stored_class(type(error)) or _describe_class(type(error))
    lost: dict[str, str] = dict(stored.lost)
    tree: dict[str, Tree] = {TAG: "exc", "m": text_of(error), "a": [_argument(a, encoder) for a in _args(error)]}
    tree["c" if stored.importable else "n"] = stored.name
    tree["b"] = list(stored.bases)
    if isinstance(error, OSError):  # its args leave the file names out
        tree["i"] = [_argument(a, encoder) for a in OSError.__reduce__(error)[1]]
    if _is_pydantic(error):
        from stepwell.codec.pydantic_models import encode_validation_error

        tree["p"] = encode_validation_error(cast("Any", error), encoder)
    for letter, attributes in (("d", _attributes(error)), ("s", _c_attributes(error))):
        pairs = list(_kept(attributes, encoder, lost))
        if pairs:
            tree[letter] = pairs
    notes = [str(note) for note in notes_of(error) if not isinstance(note, RecordedTraceback)]
    tree |= {
        k: v for k, v in (("l", [list(pair) for pair in lost.items()]), ("o", notes), ("t", frames_text(error))) if v
    }
    if members_of(error):
        tree["g"] = [_encode_part(member, encoder, chain) for member in members_of(error)]
    return tree | _encode_chain(error, encoder, chain)


def _encode_chain(error: BaseException, encoder: Encoder, chain: int) -> dict[str, Tree]:
    tree: dict[str, Tree] = {"u": True} if error.__suppress_context__ else {}
    if chain > 0:
        if error.__cause__ is not None:
            tree["k"] = _encode(error.__cause__, encoder, chain - 1)
        elif error.__context__ is not None and not error.__suppress_context__:
            tree["x"] = _encode(error.__context__, encoder, chain - 1)
    return tree


def _encode_part(error: BaseException, encoder: Encoder, chain: int) -> Tree:
    if chain <= 0:  # a group in a group in a group: keep its class and text
        return {TAG: "exc", "m": text_of(error), "a": [text_of(error)], "c": "builtins:Exception", "b": []}
    return _encode(error, encoder, chain - 1)


def _describe_class(cls: type[Any]) -> StoredClass:
    name = f"{cls.__module__}:{cls.__qualname__}"
    bases = tuple(ref for base in cls.__mro__[1:-1] if issubclass(base, BaseException) and (ref := _found(base)))
    ref = _found(cls)
    return StoredClass(ref or name, ref is not None, bases)


def _found(cls: type[Any]) -> str | None:
    try:
        return reference(cls)
    except Refusal:
        return None


def text_of(error: BaseException) -> str:
    """str() of an exception, whatever its `__str__` does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a `__str__` of the user's that fails must not hide the error
        text = f"<str() of this {type(error).__name__} failed>"
    return _clean(text)[:_MOST_ATTRIBUTE]


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _args(error: BaseException) -> tuple[Any, ...]:
    return error.args[:1] if members_of(error) else error.args  # a group's members are stored apart


def _argument(value: Any, encoder: Encoder) -> Tree:
    tree = _tree_of(value, encoder)
    return tree[0] if tree else _clean(_representation(value))


def _representation(value: Any) -> str:
    try:
        return repr(value)[:1000]
    except Exception:  # noqa: BLE001 - a `__repr__` of the user's that fails must not hide the error
        return f"<{name_of(class_of(value))}>"


def _tree_of(value: Any, encoder: Encoder) -> list[Tree]:
    """The tree of a value in a list, or an empty one if it cannot be stored or is too large for an error to carry."""
    try:
        tree = encoder.encode(value)
    except Refusal:
        return []
    return [tree] if type(value) in (int, bool) or len(to_text(tree)) <= _MOST_ATTRIBUTE else []


def _kept(attributes: dict[str, Any], encoder: Encoder, lost: dict[str, str]) -> Iterator[list[Tree]]:
    for name, value in attributes.items():
        tree = _tree_of(value, encoder)
        if tree:
            lost.pop(name, None)  # a stand-in's attribute that was set anew
            yield [name, tree[0]]
        else:
            lost[name] = name_of(class_of(value))


def _attributes(error: BaseException) -> dict[str, Any]:
    slots = {name: getattr(error, name) for name in _slots(type(error)) if hasattr(error, name)}
    return slots | {name: value for name, value in error.__dict__.items() if name not in _HIDDEN}


def _slots(cls: type[Any]) -> list[str]:
    """Names that classes written in Python keep in `__slots__`."""
    return [
        name
        for base in cls.__mro__
        if "__slots__" in base.__dict__
        for name, member in base.__dict__.items()
        if isinstance(member, MemberDescriptorType)
    ]


def _c_attributes(error: BaseException) -> dict[str, Any]:
    for cls, names in _C_ATTRIBUTES:
        if isinstance(error, cls):
            return {name: getattr(error, name) for name in names if getattr(error, name) is not None}
    return {}


# --- rebuilding


def _rebuilt(tree: dict[str, Tree], decoder: Decoder) -> BaseException:
    cls = _class_for(tree)
    args = decoder.parts(tree["a"])
    if "g" in tree:
        error = _group(cls, tree, decoder)
    else:
        error = _bare(cls, decoder.parts(tree["i"]) if "i" in tree else args)
        error.args = tuple(args)
    if stored_class(cls) is not None:
        error.__dict__[MESSAGE] = tree["m"]
    slots = _slots(cls)
    for name, value in tree.get("d", ()):
        part = decoder.part(value, attribute(name))
        if name in slots:
            object.__setattr__(error, name, part)
        else:
            error.__dict__[name] = part
    for name, value in tree.get("s", ()):
        if any(isinstance(error, cls) and name in names for cls, names in _C_ATTRIBUTES):
            object.__setattr__(error, name, decoder.part(value, attribute(name)))
    return error


def _class_for(tree: dict[str, Tree]) -> type[BaseException]:
    """The stored class, or a stand-in: for one that cannot be imported here, or for attributes that were lost."""
    lost = tuple((str(name), str(kind)) for name, kind in tree.get("l", ()))
    bases = tuple(map(str, tree["b"]))
    for ref in (*([tree["c"]] if "c" in tree else ()), *bases, "builtins:Exception"):
        try:
            cls = resolve(ref, "an exception", lambda c: issubclass(c, BaseException))
        except Refusal:
            continue
        if ref == tree.get("c") and not lost:
            return cls
        return stand_in(cls, StoredClass(tree.get("c") or tree["n"], "c" in tree, bases, lost))
    raise Refusal("has no class that can be imported")  # unreachable while builtins exist


def _bare(cls: type[BaseException], args: list[Any]) -> BaseException:
    """An instance whose C part is initialised, and no more."""
    new, init = _native(cls, "__new__"), _native(cls, "__init__")
    try:
        error = new(cls, *args)
        init(error, *args)
    except (TypeError, ValueError):  # args that someone changed after construction
        error = new(cls)
    return error


def _native(cls: type[Any], name: str) -> Any:
    """The nearest implementation of a method that is not written in Python."""
    for base in cls.__mro__:
        found = base.__dict__.get(name)
        if found is not None and not isinstance(found, FunctionType | staticmethod):
            return getattr(base, name)
    return getattr(BaseException, name)


def _group(cls: type[BaseException], tree: dict[str, Tree], decoder: Decoder) -> BaseException:
    members = [decode_exc(member, decoder) for member in tree["g"]]
    message = tree["a"][0] if tree["a"] and type(tree["a"][0]) is str else tree["m"]
    make: Any = BaseExceptionGroup.__new__
    # The class may be no group any more; then the plain group at least keeps the members.
    return make(cls if issubclass(cls, BaseExceptionGroup) else BaseExceptionGroup, message, members)


def _is_pydantic(error: BaseException) -> bool:
    return type(error).__module__ == "pydantic_core._pydantic_core" and type(error).__name__ == "ValidationError"


def _from_pydantic(tree: dict[str, Tree], decoder: Decoder) -> BaseException:
    from stepwell.codec.pydantic_models import decode_validation_error

    return decode_validation_error(tree["p"], decoder)
