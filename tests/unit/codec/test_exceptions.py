"""What a step raised is raised again as what it was, live and after a replay alike."""

from __future__ import annotations

import asyncio
import io
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from stepwell.codec.exceptions import decode_exception, encode_exception, is_recordable, rebuilt
from stepwell.codec.failure import describe_exception
from stepwell.codec.text import from_text, to_text
from stepwell.codec.values import plain, round_trip
from stepwell.errors import AbortRun, CheckpointError, ConfigError, RetryAfter, RunFailed, StepTimeout
from tests.unit.codec import samples
from tests.unit.codec.samples import Defaulted, DiskTrouble, Money, Slotted, Speechless, Trouble, Wanting


def raised(action: Callable[[], Any]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def throw(error: BaseException) -> BaseException:
    def raise_it() -> None:
        raise error

    return raised(raise_it)


def replayed(error: BaseException) -> BaseException:
    """As after a crash: through the bytes in the store."""
    return decode_exception(from_text(to_text(encode_exception(error))))


def printed(error: BaseException) -> str:
    out = io.StringIO()
    traceback.print_exception(error, file=out)
    return out.getvalue()


def exceptions() -> list[BaseException]:
    return [
        ValueError("x", 3, (1, 2)),
        KeyError("k"),
        StopIteration(3),
        OSError(),
        OSError("only text"),
        FileNotFoundError(2, "no such file", "a.txt"),
        OSError(18, "cross-device", "a", None, "b"),
        DiskTrouble("sda", 5),
        raised(lambda: b"\xff".decode()),
        raised(lambda: "\ud800".encode()),
        raised(lambda: compile("a b", "f.py", "exec")),
        raised(lambda: __import__("no_such_module_at_all")),
        raised(lambda: undefined_name),  # type: ignore[name-defined]  # noqa: F821
        raised(lambda: 1 / 0),
        socket.gaierror(-2, "Name or service not known"),
        asyncio.CancelledError("stop"),
        TimeoutError("late"),
        RecursionError("deep"),
        Wanting(code=7, because=Money(3)),
        Slotted("here"),
        AbortRun("no"),
        RetryAfter("1m"),
        ConfigError("wrong", hint="do this"),
        StepTimeout("too long"),
        RunFailed("failed", run_id="run_1", status="failed"),
        Trouble("many", [ValueError(1), KeyError(2)]),
        BaseExceptionGroup("all", [asyncio.CancelledError(), ExceptionGroup("inner", [OSError(2, "x", "f")])]),
    ]


@pytest.mark.parametrize("error", exceptions(), ids=lambda error: type(error).__name__)
def test_an_exception_comes_back_with_class_text_args_and_attributes(error: BaseException) -> None:
    for again in (replayed(error), rebuilt(error), round_trip(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert repr(again.args) == repr(error.args)
        for name in (
            "errno",
            "strerror",
            "filename",
            "filename2",
            "start",
            "end",
            "reason",
            "object",
            "name",
            "lineno",
            "value",
        ):
            assert getattr(again, name, None) == getattr(error, name, None)
        shown = {k: v for k, v in vars(again).items() if k != "__notes__"}
        assert shown == {k: v for k, v in vars(error).items() if k != "__notes__"}


def test_an_exception_with_required_keyword_arguments_is_rebuilt_without_its_init() -> None:
    error = Wanting(code=7)
    samples.inits.clear()
    again = replayed(error)
    assert samples.inits == []
    assert isinstance(again, Wanting)
    assert again.code == 7


def test_attributes_in_slots_come_back() -> None:
    again = replayed(Slotted("here"))
    assert isinstance(again, Slotted)
    assert again.place == "here"


def test_group_members_are_exceptions_of_their_own() -> None:
    again = replayed(Trouble("many", [Wanting(code=1), ExceptionGroup("in", [KeyError("k")])]))
    seen: list[Any] = []
    try:
        raise again
    except* Wanting as caught:
        seen += [error.code for error in caught.exceptions]  # type: ignore[attr-defined]
    except* KeyError as caught:
        seen += [type(error) for error in caught.exceptions]
    assert seen == [1, ExceptionGroup]


# --- classes that cannot come back as they were


def test_a_class_that_cannot_be_imported_still_matches_its_base() -> None:
    class Local(DiskTrouble):
        def __str__(self) -> str:
            return "said by a method that is lost"

    again = replayed(Local("sda", 5))
    assert isinstance(again, DiskTrouble)
    assert type(again).__name__ == "Local"
    assert str(again) == "said by a method that is lost"
    assert (again.errno, again.disk) == (5, "sda")
    assert isinstance(rebuilt(Local("sda", 5)), DiskTrouble)
    assert type(replayed(again)) is type(again)


def test_a_class_that_was_removed_still_matches_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = encode_exception(Wanting(code=1))
    tree["c"] = tree["c"].replace("Wanting", "Removed")
    again = decode_exception(tree)
    assert type(again).__name__ == "Removed"
    assert isinstance(again, Exception)
    assert not isinstance(again, RuntimeError)
    assert str(again) == "wanting 1 because NoneType"


def test_an_attribute_that_was_not_stored_says_so_live_and_after_a_replay() -> None:
    error = Wanting(code=1, because=object())
    for again in (rebuilt(error), replayed(error), replayed(replayed(error)), rebuilt(rebuilt(error))):
        assert isinstance(again, Wanting)
        assert type(again).__name__ == "Wanting"
        assert str(again) == "wanting 1 because object"
        with pytest.raises(AttributeError, match=r"'because' of Wanting was not stored.*type object"):
            _ = again.because
        assert not hasattr(again, "because")
        again.because = "set anew"
        assert replayed(again).because == "set anew"  # type: ignore[attr-defined]


def test_a_lost_attribute_is_not_covered_by_a_default_of_its_class() -> None:
    error = Defaulted()
    assert replayed(error).response is None  # type: ignore[attr-defined]
    error.response = object()
    with pytest.raises(AttributeError, match="not stored"):
        _ = replayed(error).response  # type: ignore[attr-defined]


def test_an_argument_that_cannot_be_stored_becomes_its_repr() -> None:
    again = replayed(ValueError("conn", len))
    assert again.args == ("conn", "<built-in function len>")


def test_an_exception_that_carries_a_large_document_is_stored_without_it() -> None:
    error = Wanting(code=1, because="x" * 1_000_000)
    assert len(to_text(encode_exception(error))) < 10_000
    assert not hasattr(replayed(error), "because")


def test_an_exception_whose_str_fails_is_stored_all_the_same() -> None:
    assert isinstance(replayed(Speechless()), Speechless)
    assert plain(encode_exception(Speechless()))["message"] == "<str() of this Speechless failed>"


def test_an_exception_that_refers_to_itself_is_stored() -> None:
    error = ValueError("x")
    error.me = error  # type: ignore[attr-defined]
    error.__cause__ = error
    assert str(replayed(error)) == "x"


# --- notes, causes, frames


def test_notes_come_back_and_frames_are_not_added_to_them_twice() -> None:
    error = throw(ValueError("x"))
    error.add_note("the user's note")
    again = replayed(replayed(replayed(error)))
    assert again.__notes__[0] == "the user's note"
    assert printed(again).count("the user's note") == 1
    assert printed(again).count("in raise_it") == 1


def test_cause_context_and_from_none_come_back() -> None:
    def with_cause() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    def with_context() -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer")  # noqa: B904

    def from_none() -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None

    for again in (replayed(raised(with_cause)), rebuilt(raised(with_cause))):
        assert isinstance(again.__cause__, KeyError)
        assert again.__suppress_context__
    for again in (replayed(raised(with_context)), rebuilt(raised(with_context))):
        assert isinstance(again.__context__, KeyError)
        assert again.__cause__ is None
        assert not again.__suppress_context__
    assert "inner" not in printed(replayed(raised(from_none)))


def test_at_most_five_causes_are_kept() -> None:
    error: BaseException = ValueError(0)
    for number in range(1, 10):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    kept, again = 0, replayed(error).__cause__
    while again is not None:
        kept, again = kept + 1, again.__cause__
    assert kept == 5


def test_live_the_frames_are_the_real_ones_and_nothing_is_noted() -> None:
    error = throw(Wanting(code=1))
    again = rebuilt(error)
    assert again.__traceback__ is error.__traceback__
    assert not hasattr(again, "__notes__")
    assert "raise error" in printed(again)


def test_after_a_replay_the_recorded_frames_are_printed_once() -> None:
    def deeper() -> None:
        raise ValueError("x")

    again = replayed(raised(deeper))
    assert again.__traceback__ is None
    out = printed(again)
    assert out.count("in deeper") == 1
    assert "Recorded when it was raised" in out


def test_frames_of_the_runtime_are_hidden() -> None:
    def through_the_runtime() -> None:
        from stepwell.codec.text import stdlib_decode

        stdlib_decode(b"{")

    error = raised(through_the_runtime)
    assert any("text.py" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
    assert "codec/text.py" not in encode_exception(error)["t"]
    assert "codec/text.py" not in describe_exception(error)["stack"]
    assert "through_the_runtime" in describe_exception(error)["stack"]


def test_the_frames_of_an_endless_recursion_stay_small() -> None:
    def recurse() -> None:
        recurse()

    tree = encode_exception(raised(recurse))
    assert len(tree["t"]) < 5_000
    assert len(describe_exception(raised(recurse))["stack"]) < 40_000


# --- what is not recorded


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(1), MemoryError(), GeneratorExit(), BaseExceptionGroup("g", [SystemExit()])],
)
def test_what_ends_the_process_is_not_recorded(error: BaseException) -> None:
    assert not is_recordable(error)
    with pytest.raises(CheckpointError, match="not kept in the journal"):
        encode_exception(error)


def test_a_tree_that_is_no_exception_is_refused() -> None:
    for tree in (None, [], {}, {"$t": "tuple", "v": []}, {"$t": "exc"}):
        with pytest.raises(CheckpointError):
            decode_exception(tree)


def test_no_class_but_an_exception_is_constructed() -> None:
    tree = {"$t": "exc", "c": "subprocess:Popen", "b": ["os:system"], "m": "x", "a": [["touch", "x"]]}
    again = decode_exception(tree)
    assert type(again).__mro__[1] is Exception


# --- for people and other languages


def test_a_failure_is_described_with_type_message_hint_stack_and_cause() -> None:
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ConfigError("wrong", hint="do this") from error

    said = describe_exception(raised(fail))
    assert (said["type"], said["message"], said["hint"]) == ("stepwell.errors.ConfigError", "wrong", "do this")
    assert said["cause"] == {"type": "KeyError", "message": "'inner'", "hint": None, "cause": None}
    assert said["stack"].index("KeyError") < said["stack"].index("ConfigError: wrong")


def test_the_plain_view_of_an_exception_is_an_object() -> None:
    shown = plain(encode_exception(Trouble("many", [throw(ValueError("x"))])))
    assert shown["type"] == "tests.unit.codec.samples.Trouble"
    assert shown["exceptions"][0]["type"] == "ValueError"
    assert "in raise_it" in shown["exceptions"][0]["stack"]
