"""One line that user code logged or printed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LogLine:
    """seq: rises with the order of arrival; give the last one seen to read on. at: seconds since the epoch.

    stream: "log", "stdout" or "stderr". step: the key of the step that said it, empty for the task's own lines.
    """

    seq: int
    attempt: int
    at: float
    level: str
    stream: str
    logger: str
    step: str
    message: str
    attributes: dict[str, str] = field(default_factory=dict[str, str])
