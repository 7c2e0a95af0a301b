"""Strict msgpack and JSON: the one module that imports msgspec.

Messages are classes derived from :class:`Message`; the class name travels as a tag, unknown tags and wrong
types raise :class:`WireError`, and nothing is guessed.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["Codec", "Message", "Value", "WireError", "document_from_json", "from_json", "to_json"]


class WireError(ValueError):
    """The bytes are not a message of this protocol."""


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=False):
    """A part of a message."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A message: immutable, tagged with its class name."""


MessageT = TypeVar("MessageT")
DocumentT = TypeVar("DocumentT")


class Codec(Generic[MessageT]):
    """Encodes any message and decodes those of one protocol, given as a union type."""

    def __init__(self, union: Any) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[MessageT] = msgspec.msgpack.Decoder(union)

    def encode(self, message: Message) -> bytes:
        """Return the message as msgpack, without a length."""
        return self._encoder.encode(message)

    def decode(self, payload: bytes | bytearray | memoryview) -> MessageT:
        """Return the message in ``payload``. Raises :class:`WireError`."""
        try:
            return self._decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise WireError(str(error)) from error


def to_json(value: Any) -> bytes:
    """Return ``value`` as compact JSON. Raises TypeError for what JSON has no form for."""
    return msgspec.json.encode(value)


def from_json(text: bytes | str) -> Any:
    """Return the value of a JSON text. Raises :class:`WireError`."""
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise WireError(str(error)) from error


def document_from_json(text: bytes | str, kind: type[DocumentT]) -> DocumentT:
    """Return a JSON text as an instance of a dataclass; members it does not know are left out.

    Raises :class:`WireError`.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise WireError(str(error)) from error
