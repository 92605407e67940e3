"""Judges whether a writer still owns its run: one place for all verbs that end a lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from stepwell.errors import LeaseLost, StepwellError
from stepwell.model.run import RunState


class Written(Protocol):
    """A frame that ends a lease."""

    @property
    def run_id(self) -> str: ...
    @property
    def epoch(self) -> int: ...


Frame = TypeVar("Frame", bound=Written)


def lease_lost(run_id: str, epoch: int, why: str = "another worker owns the run now, or nobody") -> LeaseLost:
    return LeaseLost(f"epoch {epoch} of {run_id} is over: {why}", hint="end the run's process and write nothing more")


def split(
    frames: Sequence[Frame], states: Mapping[str, RunState], worker_id: str, verb: str
) -> tuple[dict[str, tuple[Frame, RunState]], list[StepwellError | None]]:
    """The frames that hold, by run, and an answer for each frame.

    A frame that comes again after its reply was lost finds its own work done: the lease of the same epoch was ended by
    the same verb. It is answered as it was then, with no error.
    """
    holding: dict[str, tuple[Frame, RunState]] = {}
    answers: list[StepwellError | None] = []
    for frame in frames:
        state = states.get(frame.run_id)
        if state is None:
            answers.append(lease_lost(frame.run_id, frame.epoch, "there is no such run"))
        elif state.held_by(worker_id, frame.epoch):
            holding.setdefault(frame.run_id, (frame, state))
            answers.append(None)
        elif state.lease_epoch == frame.epoch and state.left_by == verb:
            answers.append(None)
        else:
            answers.append(lease_lost(frame.run_id, frame.epoch, f"the run is {state.status}"))
    return holding, answers
