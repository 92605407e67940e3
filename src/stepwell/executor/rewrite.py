"""Rewrites an async function so that each of its awaits asks the runtime first.

    await X              ->  await __stepwell_await__(X, "file.py:31")
    async for x in X     ->  async for x in __stepwell_aiter__(X, "file.py:31")      (comprehensions too)
    async with X         ->  async with __stepwell_acm__(X, "file.py:31")

The new code object keeps the file, the lines and the columns of the original: tracebacks, debuggers and coverage see
the user's source. Everything else of the function (defaults, annotations, closure cells, signature) is the original's.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, cast

from stepwell.errors import ConfigError
from stepwell.executor import hazards, transparent

AWAIT, AITER, ACM = "__stepwell_await__", "__stepwell_aiter__", "__stepwell_acm__"
_OUTER = "__stepwell_outer__"
_ANNOTATIONS = 0x1000000  # __future__.annotations.compiler_flag: how the body's own annotations are compiled

# What the three names stand for; filled by `awaiting` when it is imported.
hooks: dict[str, Callable[[Any, str], Any]] = {}


def rewrite(fn: Callable[..., Any], kind: str = "task") -> Callable[..., Any]:
    """`fn` with journaled awaits. `kind` is the decorator's name, for messages: "task" or "durable".

    Raises:
        ConfigError: its source cannot be found, it is an async generator (as a task), or another decorator hides it.
    """
    if not isinstance(fn, FunctionType):
        return fn
    if not inspect.iscoroutinefunction(fn) and not inspect.isasyncgenfunction(fn):
        return fn  # `def` tasks have no awaits: their `@step` calls are the checkpoints
    if transparent.is_rewritten(fn.__code__):
        return fn
    inner = getattr(fn, "__wrapped__", None)
    if isinstance(inner, FunctionType):
        return _rewrite_within(fn, inner, kind)
    if kind == "task" and inspect.isasyncgenfunction(fn):
        raise ConfigError(
            f"task {fn.__qualname__!r} ({_place(fn)}) is an async generator; a task returns one value",
            hint="collect what it yields into a list and return that, or drop the `yield`",
        )
    return _rewritten(fn, kind)


def _rewrite_within(wrapper: FunctionType, inner: FunctionType, kind: str) -> Callable[..., Any]:
    """Another decorator sits between ours and the function: rewrite the function in that wrapper's own cell."""
    for cell in wrapper.__closure__ or ():
        held = cell.cell_contents
        if held is inner:
            cell.cell_contents = rewrite(inner, kind)
            return wrapper
        hides_it = isinstance(held, FunctionType) and getattr(held, "__wrapped__", None) is inner
        if hides_it and transparent.is_rewritten(held.__code__):
            return wrapper  # rewritten before
    raise ConfigError(
        f"@{kind} stands above another decorator of {inner.__qualname__!r} ({_place(inner)}), "
        "and cannot see through it",
        hint=f"put @{kind} closest to the function: the other decorators above it",
    )


def _rewritten(fn: FunctionType, kind: str) -> FunctionType:
    node, first = _parsed(fn, kind)
    _strip(node)
    found = hazards.found_in(node, fn)
    rewriter = _Rewriter(Path(fn.__code__.co_filename).name)
    node.body = [rewriter.visit(statement) for statement in node.body]
    code = _compiled(fn, node, first)
    if set(code.co_freevars) != set(fn.__code__.co_freevars):
        raise ConfigError(
            f"@{kind} cannot rewrite {fn.__qualname__!r} ({_place(fn)}): its source is not the code that is running",
            hint="restart the process if the file was edited meanwhile; put the decorator closest to the function",
        )
    hazards.remember(code, found)
    return _function(fn, code)


def _parsed(fn: FunctionType, kind: str) -> tuple[ast.AsyncFunctionDef, int]:
    try:
        lines, first = inspect.getsourcelines(fn.__code__)
    except (OSError, TypeError) as error:
        raise ConfigError(
            f"the source of {fn.__qualname__!r} cannot be found ({error}), so its awaits cannot become checkpoints",
            hint=f"define it in a file, not in a REPL, exec() or a .pyc alone; or leave out @{kind} "
            "and call explicit @step functions from a `def` task",
        ) from error
    text = "".join(lines)
    indented = text[:1] in " \t"
    # An indented function is parsed as it stands, under an `if`: removing the indentation would change the text of
    # its multi-line strings and the columns of its tracebacks.
    tree = ast.parse("if 1:\n" + text if indented else text, filename=fn.__code__.co_filename)
    body = cast("ast.If", tree.body[0]).body if indented else tree.body
    node = body[0]
    if not isinstance(node, ast.AsyncFunctionDef) or node.name != fn.__code__.co_name:
        raise ConfigError(
            f"the source found for {fn.__qualname__!r} ({_place(fn)}) is that of something else",
            hint="restart the process: the file was edited after it was imported",
        )
    ast.increment_lineno(tree, first - (2 if indented else 1))
    return node, first


def _strip(node: ast.AsyncFunctionDef) -> None:
    """What was evaluated when the function was defined must not be evaluated again."""
    node.decorator_list = []
    node.returns = None
    _no_type_parameters(node)
    arguments = node.args
    arguments.defaults = [_none(default) for default in arguments.defaults]
    arguments.kw_defaults = [default and _none(default) for default in arguments.kw_defaults]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None


def _none(at: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Constant(None), at)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, file: str) -> None:
        self.file = file

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        node.value = self._ask(AWAIT, node.value, node.lineno)
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        self.generic_visit(node)
        node.iter = self._ask(AITER, node.iter, node.lineno)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        if node.is_async:
            node.iter = self._ask(AITER, node.iter, node.iter.lineno)
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        self.generic_visit(node)
        for item in node.items:
            item.context_expr = self._ask(ACM, item.context_expr, item.context_expr.lineno)
        return node

    def _ask(self, hook: str, value: ast.expr, line: int) -> ast.expr:
        call = ast.Call(ast.Name(hook, ast.Load()), [value, ast.Constant(f"{self.file}:{line}")], [])
        for new in (call, call.func, call.args[1]):
            ast.copy_location(new, value)
        return call


def _compiled(fn: FunctionType, node: ast.AsyncFunctionDef, first: int) -> CodeType:
    """The function's new code, compiled in scopes that give it the free names and the class it had."""
    free = fn.__code__.co_freevars
    owner = fn.__qualname__.split(".")[-2] if "." in fn.__qualname__ else ""
    scope: ast.stmt = node
    if "__class__" in free or (owner and owner != "<locals>"):  # super(), and the mangling of private names
        scope = ast.ClassDef(name=owner, bases=[], keywords=[], body=[node], decorator_list=[])
        _no_type_parameters(scope)
    assigned = [ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None)) for name in free if name != "__class__"]
    no_arguments = ast.arguments([], [], None, [], [], None, [])
    # A function that names itself means the module's name, not the one that our scope around it would have.
    own = [] if node.name in free or scope is not node else [ast.Global([node.name])]
    outer = ast.FunctionDef(name=_OUTER, args=no_arguments, body=[*own, *assigned, scope], decorator_list=[])
    _no_type_parameters(outer)
    for new in (outer, *own, *assigned, *([scope] if scope is not node else [])):
        new.lineno, new.col_offset, new.end_lineno, new.end_col_offset = first, 0, first, 0
    module = ast.fix_missing_locations(ast.Module([outer], []))
    flags = fn.__code__.co_flags & _ANNOTATIONS
    top = compile(module, fn.__code__.co_filename, "exec", flags=flags, dont_inherit=True)
    code = next(found for found in _codes_in(top) if found.co_name == node.name and found.co_flags & _ASYNC)
    return _renamed(code, code.co_qualname, fn.__qualname__)


_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


def _renamed(code: CodeType, old: str, new: str) -> CodeType:
    """The code with its qualified name, and those of all code nested in it, as they are in the user's source."""
    constants = tuple(_renamed(c, old, new) if isinstance(c, CodeType) else c for c in code.co_consts)
    qualname = new + code.co_qualname.removeprefix(old) if code.co_qualname.startswith(old) else code.co_qualname
    return code.replace(co_qualname=qualname, co_consts=constants)


def _function(fn: FunctionType, code: CodeType) -> FunctionType:
    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    for name, hook in hooks.items():
        fn.__globals__.setdefault(name, hook)
    closure = tuple(cells[name] for name in code.co_freevars)
    new = FunctionType(code, fn.__globals__, fn.__name__, fn.__defaults__, closure or None)
    new.__kwdefaults__ = fn.__kwdefaults__
    functools.update_wrapper(new, fn)
    transparent.register(code)
    return new


def _no_type_parameters(node: ast.AST) -> None:
    if sys.version_info >= (3, 12):
        node.type_params = []  # type: ignore[attr-defined]


def _place(fn: FunctionType) -> str:
    return f"{Path(fn.__code__.co_filename).name}:{fn.__code__.co_firstlineno}"
