"""Why a value cannot be stored or rebuilt, and where in it. Inside the codec only: callers see `CheckpointError`."""

from __future__ import annotations

from stepwell.errors import CheckpointError

WAY_OUT = (
    "return plain data, or use `async with`, or build it outside the step; "
    "or register the type with stepwell.register_type"
)


class Refusal(Exception):
    """Raised deep in the walk. The path to the fault is gathered while unwinding, so that a walk that succeeds pays
    nothing.
    """

    def __init__(self, reason: str, hint: str | None = None, *, circle: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self._steps: list[str] = []
        self._circle = circle
        self._steps_below_circle: int | None = None

    def came_from(self, step: str) -> None:
        """Note one step of the path: the walk calls this at each level it leaves, innermost first."""
        self._steps.append(step)

    def leaving(self, identity: int) -> None:
        """Note that the walk leaves the container with this identity: a circle began at the one it names."""
        if identity == self._circle and self._steps_below_circle is None:
            self._steps_below_circle = len(self._steps)

    @property
    def path(self) -> str:
        return _path(self._steps)

    def as_error(self) -> CheckpointError:
        if self._circle is None:
            return CheckpointError(f"value at {self.path} {self.reason}", hint=self.hint)
        outer = _path(self._steps[self._steps_below_circle or 0 :])
        return CheckpointError(f"value at {self.path} is circular: it is the same object as {outer}", hint=self.hint)


def _path(steps: list[str]) -> str:
    """Steps, innermost first, as one path; the middle of a very long one is left out."""
    if len(steps) > 40:
        steps = [*steps[:10], "...", *steps[-25:]]
    return "$" + "".join(reversed(steps))


def attribute(name: str) -> str:
    """A path step to a named part: `.name`, or `["odd name"]`."""
    return f".{name}" if name.isidentifier() else f"[{name!r}]"


def item(key: object) -> str:
    """A path step to a numbered or keyed part, kept short."""
    text = repr(key)
    return f"[{text if len(text) <= 60 else text[:57] + '...'}]"


def name_of(cls: type) -> str:
    """The name of a class as people write it."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
