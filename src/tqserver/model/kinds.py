"""How the value of a setting is written: one class for each kind, none of which guesses.

A kind reads a :class:`Scalar` and returns the value, or raises :class:`Wrong` with what it expected. YAML has
views of its own (``no`` is false, ``010`` is 8, ``1:30`` is 90): a scalar is taken only if it is written as
the kind says, so that what is in the file is what a reader sees.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Protocol

UNTYPED = "untyped"  # text of an environment variable, which has no types
NO_FILE = ("", "~")
LOOPBACK = "127.0.0.1"
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_UNITS = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_GO_MEMORY = re.compile(r"[0-9]+(?:B|KiB|MiB|GiB|TiB)?|off")  # of the Go package runtime, GOMEMLIMIT
_ADDRESS_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\[\]:\s/]*")
_OWN_PREFIX = "TQ_"
_OWN_NAMES = ("PORT", "ROUTE", "NOTIFY_SOCKET")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Wrong(Exception):
    """The value is not of the kind. ``expected`` completes "expected ..."; ``got``, if it is given, "got ..."."""

    def __init__(self, expected: str, remedy: str = "", got: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.remedy = remedy
        self.got = got


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as written. ``type`` is YAML's ("int", "str", "null" ...) or :data:`UNTYPED`."""

    type: str
    text: str

    def __str__(self) -> str:
        """Show it to the one who wrote it."""
        if self.type == "null":
            return "nothing"
        return f'"{self.text}"' if self.type in ("str", UNTYPED) else self.text


class Kind(Protocol):
    """What the value of a setting may be."""

    @property
    def name(self) -> str:
        """The kind as documentation shows it: "integer", "size"."""
        ...

    def read(self, scalar: Scalar) -> Any:
        """Return the value. Raises :class:`Wrong`."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number, whole unless ``fractions``, within bounds that are included. The name carries the unit."""

    low: float | None = None
    high: float | None = None
    name: str = "integer"
    fractions: bool = False

    def read(self, scalar: Scalar) -> int | float:
        """Return the number; a whole one as int, so that it is shown as it was written."""
        form = _DECIMAL if self.fractions else _WHOLE
        is_number = form.fullmatch(scalar.text) is not None
        if not is_number or scalar.type not in ("int", "float", UNTYPED):
            quoted = is_number and scalar.type == "str"
            raise Wrong(self._expected, "remove the quotes" if quoted else "")
        value = float(scalar.text) if "." in scalar.text else int(scalar.text)
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise Wrong(self._expected)
        return value

    @property
    def _expected(self) -> str:
        what = "a number" if self.fractions else "a whole number"
        if self.low is not None and self.high is not None:
            return f"{what} from {self.low:.15g} to {self.high:.15g}"
        return what if self.low is None else f"{what} of at least {self.low:.15g}"


def seconds(low: float = 0) -> Number:
    """Return the kind of a time in seconds, which may have a fraction."""
    return Number(low=low, name="seconds", fractions=True)


def milliseconds() -> Number:
    """Return the kind of a time in whole milliseconds."""
    return Number(low=0, name="milliseconds")


@dataclass(frozen=True, slots=True)
class Text:
    """Any text; ``begins`` is what it must begin with, if anything."""

    empty_allowed: bool = True
    begins: str = ""
    name: str = "text"

    def read(self, scalar: Scalar) -> str:
        """Return the text. Numbers, booleans and dates are refused, for YAML may have changed them."""
        if scalar.type not in ("str", UNTYPED):
            quoted = '""' if scalar.type == "null" and self.empty_allowed else f'"{scalar.text}"'
            remedy = "give it a value, or remove the line" if scalar.type == "null" else f"write {quoted}"
            raise Wrong("a text", remedy)
        if not scalar.text and not self.empty_allowed:
            raise Wrong("a text that is not empty", "give it a value, or remove the line")
        if not scalar.text.startswith(self.begins):
            raise Wrong(f"a text that begins with {self.begins}", f'write "{self.begins}{scalar.text}"')
        return scalar.text


@dataclass(frozen=True, slots=True)
class User:
    """A user of the machine: ``name``, ``uid``, ``name:group`` or ``uid:gid``; kept as text, for the host knows."""

    name: str = "user"

    def read(self, scalar: Scalar) -> str:
        """Return the text; a number is taken as it is written."""
        if scalar.type not in ("str", "int", UNTYPED):
            remedy = 'write "", or remove the line' if scalar.type == "null" else f'write "{scalar.text}"'
            raise Wrong("a user", remedy)
        user, colon, group = scalar.text.partition(":")
        if scalar.text and (not user or (colon and not group)):
            raise Wrong("a user", 'write it as "www-data" or "www-data:www-data"')
        return scalar.text


@dataclass(frozen=True, slots=True)
class EnvValue:
    """The value of an environment variable: any text but one with a NUL. It may be a password, so it is never shown."""

    name: str = "text"

    def read(self, scalar: Scalar) -> str:
        """Return the text. Numbers, booleans and dates are refused, for YAML may have changed them."""
        if scalar.type != "str":
            if scalar.type == "null":
                raise Wrong("a text", "give it a value, or remove the line")
            raise Wrong("a text", "put it in quotes", got=f"a value of type {scalar.type}, not shown")
        if "\0" in scalar.text:
            raise Wrong("a text without NUL", "remove the NUL", got="one with NUL, not shown")
        return scalar.text


@dataclass(frozen=True, slots=True)
class EnvName:
    """The name of an environment variable that is not one by which the server tells a worker its place."""

    name: str = "variable"

    def read(self, scalar: Scalar) -> str:
        """Return the name."""
        if not scalar.text or "=" in scalar.text or "\0" in scalar.text:  # environ(7)
            raise Wrong("the name of a variable", "write NAME: value")
        if scalar.text.startswith(_OWN_PREFIX) or scalar.text in _OWN_NAMES:
            raise Wrong("a variable that is not the server's own", "it is set for each worker; remove the line")
        return scalar.text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The words."""
        return " or ".join(self.words)

    def read(self, scalar: Scalar) -> str:
        """Return the word."""
        # YAML takes some words for something else, such as off for false: what counts is what is written.
        if scalar.type not in ("str", "bool", UNTYPED) or scalar.text not in self.words:
            nearest = [word for word in self.words if scalar.text.lower().startswith(word)]
            raise Wrong(self.name, f"did you mean {nearest[0]}?" if nearest else "")
        return scalar.text


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no, written as true or false: YAML's other words for it are refused."""

    name: str = "true or false"

    def read(self, scalar: Scalar) -> bool:
        """Return which."""
        if scalar.type not in ("bool", UNTYPED) or scalar.text not in ("true", "false"):
            raise Wrong(self.name)
        return scalar.text == "true"


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, as a whole number or with a unit: "512MiB" (1024) or "500MB" (1000); empty is 0."""

    low: int = 0
    high: int | None = None
    name: str = "size"

    def read(self, scalar: Scalar) -> int:
        """Return the number of bytes."""
        if scalar.type in ("str", UNTYPED) and not scalar.text and self.low == 0:
            return 0
        found = _SIZE.fullmatch(scalar.text)
        if scalar.type not in ("int", "str", UNTYPED) or found is None:
            raise Wrong("a size in bytes", 'write it as 1048576 or "1MiB"')
        size = int(found[1]) * _UNITS[found[2] or ""]
        if size < self.low or (self.high is not None and size > self.high):
            limit = f"from {self.low}" + (f" to {self.high}" if self.high is not None else "")
            raise Wrong(f"a size {limit} bytes")
        return size


@dataclass(frozen=True, slots=True)
class GoMemory:
    """What Go takes as GOMEMLIMIT; kept as text, since it is Go that reads it."""

    name: str = "size for Go"

    def read(self, scalar: Scalar) -> str:
        """Return the text, empty for no limit."""
        is_known = _GO_MEMORY.fullmatch(scalar.text) is not None or not scalar.text
        if scalar.type not in ("int", "bool", "str", UNTYPED) or not is_known:  # YAML takes off for false
            raise Wrong("a size that Go knows", 'write it as "512MiB" or "2GiB", or "" for no limit')
        return scalar.text


@dataclass(frozen=True, slots=True)
class LogFile:
    """The name of a log file with placeholders; null, "" and "~" mean no file."""

    placeholders: tuple[str, ...]
    name: str = "file name"

    def read(self, scalar: Scalar) -> str | None:
        """Return the template, None for no file."""
        if scalar.type == "null" or (scalar.type in ("str", UNTYPED) and scalar.text in NO_FILE):
            return None
        if scalar.type not in ("str", UNTYPED):
            raise Wrong("a file name", f'write "{scalar.text}", or null for no file')
        for placeholder in _PLACEHOLDER.findall(scalar.text):
            if placeholder not in self.placeholders:
                known = " and ".join(f"{{{name}}}" for name in self.placeholders)
                raise Wrong(f"a file name with no placeholder but {known}", f"remove {{{placeholder}}}")
        return scalar.text


@dataclass(frozen=True, slots=True)
class Network:
    """An IP address or a network ("10.0.0.0/8")."""

    name: str = "network"

    def read(self, scalar: Scalar) -> str:
        """Return it in its canonical form."""
        expected = 'an IP address or a network such as "10.0.0.0/8"'
        if scalar.type not in ("str", UNTYPED):
            raise Wrong(expected)
        try:
            network = ipaddress.ip_network(scalar.text, strict=False)
        except ValueError:
            raise Wrong(expected) from None
        if "/" in scalar.text:
            try:
                ipaddress.ip_network(scalar.text)
            except ValueError:
                raise Wrong("a network without host bits", f'write "{network}"') from None
            return str(network)
        return str(network.network_address)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: "host:port", or a port alone, which is that of the loopback address."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The kind of an :class:`Address`. An IPv6 address has brackets: "[::1]:10100"."""

    name: str = "address"

    def read(self, scalar: Scalar) -> Address:
        """Return the address."""
        host, _, port = scalar.text.rpartition(":")
        is_known = scalar.type in ("int", "str", UNTYPED) and re.fullmatch(r"[0-9]{1,5}", port) and int(port) < 2**16
        if not is_known or scalar.text.startswith(":") or _ADDRESS_HOST.fullmatch(host) is None:
            raise Wrong("a port, or an address with a port", 'write it as 10100, "127.0.0.1:10100" or "[::1]:10100"')
        return Address(host.strip("[]") or LOOPBACK, int(port))


@dataclass(frozen=True, slots=True)
class Unset:
    """Another kind, or nothing: null says that the default shall be found out when it is needed."""

    kind: Kind

    @property
    def name(self) -> str:
        """The other kind's."""
        return self.kind.name

    def read(self, scalar: Scalar) -> Any:
        """Return the value or None."""
        if scalar.type == "null" or (scalar.type == UNTYPED and not scalar.text):
            return None
        return self.kind.read(scalar)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; in an environment variable, separated by commas."""

    item: Kind

    @property
    def name(self) -> str:
        """What it is a list of."""
        return f"list of {self.item.name}s"


@dataclass(frozen=True, slots=True)
class MappingOf:
    """A mapping from names of one kind to values of another."""

    names: Kind
    item: Kind

    @property
    def name(self) -> str:
        """What it maps to."""
        return f"mapping of {self.item.name}s"
