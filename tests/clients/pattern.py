"""What an answer has to look like, as data.

A dict holds of a dict that has these keys with values that hold (other keys may be there); a list holds of a list of
the same length, item by item; the words below hold of what they say; anything else holds of its equal.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass


class Word:
    """A pattern with a name. `structured`: of something else than a text."""

    structured = False

    def filled(self, fill: Callable) -> "Word":
        """The same with names replaced in its parts."""
        return self

    def differs(self, value: object, at: str) -> list[str]:
        """What is wrong with the value, one line each."""
        raise NotImplementedError


@dataclass(frozen=True)
class Any(Word):
    """Whatever it is; as the value of a key: the key is there."""

    def differs(self, value: object, at: str) -> list[str]:
        return []


@dataclass(frozen=True)
class Other(Word):
    """Anything but this."""

    value: object

    def filled(self, fill: Callable) -> Word:
        return Other(fill(self.value))

    def differs(self, value: object, at: str) -> list[str]:
        return [f"{at}: expected another than {value!r}"] if value == self.value else []


@dataclass(frozen=True)
class Many(Word):
    """A list with so many items like this, among others."""

    structured = True
    number: int
    pattern: object

    def filled(self, fill: Callable) -> Word:
        return Many(self.number, fill(self.pattern))

    def differs(self, value: object, at: str) -> list[str]:
        if not isinstance(value, list):
            return [f"{at}: expected a list, got {value!r}"]
        found = sum(not differences(self.pattern, item, at) for item in value)
        return [] if found == self.number else [f"{at}: expected {self.number} items like {self.pattern}, got {found}"]


@dataclass(frozen=True)
class Some(Word):
    """There, and not empty."""

    def differs(self, value: object, at: str) -> list[str]:
        return [f"{at}: expected something, got {value!r}"] if value in (None, "", [], {}) else []


@dataclass(frozen=True)
class Gone(Word):
    """Not there; as the value of a key."""

    def differs(self, value: object, at: str) -> list[str]:
        return [f"{at}: expected nothing, got {value!r}"]


@dataclass(frozen=True)
class Like(Word):
    """A text in which this expression is found."""

    expression: str

    def filled(self, fill: Callable) -> Word:
        return Like(str(fill(self.expression)))

    def differs(self, value: object, at: str) -> list[str]:
        found = isinstance(value, str) and re.search(self.expression, value)
        return [] if found else [f"{at}: expected /{self.expression}/, got {value!r}"]


@dataclass(frozen=True)
class OneOf(Word):
    """What holds of one of these."""

    patterns: tuple

    def filled(self, fill: Callable) -> Word:
        return OneOf(tuple(fill(one) for one in self.patterns))

    def differs(self, value: object, at: str) -> list[str]:
        held = any(not differences(one, value, at) for one in self.patterns)
        return [] if held else [f"{at}: expected one of {self.patterns}, got {value!r}"]


class Has(Word):
    """A list with an item for each of these, in any order, among others; `never` holds of none of its items."""

    structured = True

    def __init__(self, *patterns: object, never: tuple = ()) -> None:
        self.patterns, self.never = patterns, never

    def filled(self, fill: Callable) -> Word:
        return Has(*(fill(one) for one in self.patterns), never=tuple(fill(one) for one in self.never))

    def differs(self, value: object, at: str) -> list[str]:
        if not isinstance(value, list):
            return [f"{at}: expected a list, got {value!r}"]
        short = repr(value)[:600]
        said = [
            f"{at}: expected an item like {one}, got {short}"
            for one in self.patterns
            if all(differences(one, item, at) for item in value)
        ]
        return said + [
            f"{at}: expected no item like {one}, got {short}"
            for one in self.never
            if any(not differences(one, item, at) for item in value)
        ]


@dataclass(frozen=True)
class Both(Word):
    """What holds of all of these."""

    patterns: tuple

    def filled(self, fill: Callable) -> Word:
        return Both(tuple(fill(one) for one in self.patterns))

    def differs(self, value: object, at: str) -> list[str]:
        return [line for one in self.patterns for line in differences(one, value, at)]


ANY, SOME, GONE = Any(), Some(), Gone()


def differences(expected: object, value: object, at: str = "it") -> list[str]:
    """How the value is not as expected, one line each; empty when it is."""
    if isinstance(expected, Word):
        return expected.differs(value, at)
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            return [f"{at}: expected an object, got {value!r}"]
        said = []
        for key, pattern in expected.items():
            if key in value:
                said += differences(pattern, value[key], f"{at}.{key}")
            elif not isinstance(pattern, Gone):
                said.append(f"{at}.{key}: expected {pattern!r}, it is not there")
        return said
    if isinstance(expected, (list, tuple)):
        if not isinstance(value, list) or len(value) != len(expected):
            return [f"{at}: expected {len(expected)} items {expected!r}, got {value!r}"]
        return [line for index, one in enumerate(expected) for line in differences(one, value[index], f"{at}[{index}]")]
    same = expected == value and isinstance(expected, bool) == isinstance(value, bool)
    return [] if same else [f"{at}: expected {expected!r}, got {value!r}"]
