"""Classes at module level that the codec's tests store and find again."""

from __future__ import annotations

import enum
import functools
from dataclasses import InitVar, dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import attr
import msgspec
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, PrivateAttr, field_validator

T = TypeVar("T")
inits: list[str] = []


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"
    CRIMSON = "red"  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2**60


class Mood(enum.StrEnum):
    GOOD = enum.auto()


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Bits(enum.IntFlag):
    ONE = 1
    FOUR = 4


class Odd(enum.Enum):
    TUPLE = (1, 2)
    OBJECT = object()


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Marked(Point):
    """A named tuple with a `__dict__`."""


@dataclass
class Address:
    street: str
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Money:
    amount: int
    currency: str = "EUR"


@dataclass
class Careful:
    name: str
    seed: InitVar[int]
    doubled: int = field(init=False)

    def __post_init__(self, seed: int) -> None:
        inits.append(self.name)
        self.doubled = seed * 2
        self.note = "set beside the fields"  # pyright: ignore[reportAttributeAccessIssue]

    @functools.cached_property
    def expensive(self) -> object:
        return object()


@dataclass
class Unset:
    later: int = field(init=False)


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Words(list):  # type: ignore[type-arg]
    language: str = "en"


class Plain:
    """No family: refused until it is registered."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


class User(BaseModel):
    name: str
    age: int = 0
    friends: list[User] = []
    home: Address | None = None
    _seen: int = PrivateAttr(default=0)

    @functools.cached_property
    def shouted(self) -> object:
        return object()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    id: int
    full_name: str = Field(default="", alias="fullName")


class Strict(BaseModel):
    amount: int = Field(gt=0)
    site: AnyUrl | None = None
    code: str = "A"

    @field_validator("code")
    @classmethod
    def check_code(cls, value: str) -> str:
        inits.append(f"validated {value}")
        if value.startswith("{"):
            raise ValueError("braces {are} odd")
        return value


class Page(BaseModel, Generic[T]):
    items: list[T]


@attr.define
class Leaf:
    text: str
    weight: int = 1
    children: list[Any] = attr.Factory(list)

    def __attrs_post_init__(self) -> None:
        inits.append(self.text)


@attr.frozen
class Stone:
    weight: int


class Row(msgspec.Struct):
    id: int
    cells: list[Any] = []


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    key: str


class Wanting(Exception):
    """An exception that cannot be made from its args."""

    def __init__(self, *, code: int, because: Any = None) -> None:
        inits.append("Wanting")
        super().__init__(f"code {code}")
        self.code = code
        self.because = because

    def __str__(self) -> str:
        return f"wanting {self.code} because {self.because.__class__.__name__}"


class Slotted(Exception):
    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place


class DiskTrouble(OSError):
    def __init__(self, disk: str, errno: int) -> None:
        super().__init__(errno, f"disk {disk}")
        self.disk = disk


class Trouble(ExceptionGroup[Exception]):
    pass


class Defaulted(Exception):
    response: Any = None


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")
