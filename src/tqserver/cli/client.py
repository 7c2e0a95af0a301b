"""Asks the running server, over its unix socket (``docs/admin.md``)."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from tqserver.host import clock
from tqserver.host.rundir import admin_socket
from tqserver.host.sockets import connect_unix
from tqserver.model.errors import ConfigError, ExitCode, HostError, Location, NotFound, PageError, TimedOut, TQError
from tqserver.model.status import Refusal
from tqserver.wire.codec import document_from_json, from_json, to_json

ANSWER_SECONDS = 10.0  # for what needs no waiting
RETRY_SECONDS = 0.05  # between looks for a server that is to start
DocumentT = TypeVar("DocumentT")
_ERRORS: dict[int, type[TQError]] = {
    ExitCode.USAGE: NotFound,
    ExitCode.CONFIG: ConfigError,
    ExitCode.UNAVAILABLE: HostError,
    ExitCode.PAGE: PageError,
    ExitCode.TIMEOUT: TimedOut,
}


class NoServer(HostError):
    """No server runs in this project."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_seconds: float | None) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock: socket.socket = connect_unix(self._path)
        self.sock.settimeout(self.timeout)


class Client:
    """Asks the server of a project; every method may raise :class:`NoServer` or what the server refuses with."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._socket = admin_socket(project)

    def get(self, path: str, kind: type[DocumentT], *, patient: bool = False, **query: object) -> DocumentT:
        """Return a document; ``patient`` waits for it as long as it takes."""
        return self._document("GET", path, kind, query, patient=patient)

    def post(self, path: str, kind: type[DocumentT], **query: object) -> DocumentT:
        """Have something done; return its document when it is."""
        return self._document("POST", path, kind, query, patient=True)

    def lines(self, path: str, **query: object) -> Iterator[bytes]:
        """Yield the lines of a stream until the server ends it, or ends."""
        response = self._ask("GET", path, query, patient=True)
        try:
            while line := response.readline():
                yield line
        except (http.client.HTTPException, OSError):
            return  # it was stopped: a stream without an end ends so

    def until_there(self, timeout_seconds: float) -> float:
        """Return, once a server answers, how many of the seconds are left. Raises :class:`NoServer` after them."""
        deadline, pause = clock.monotonic() + timeout_seconds, threading.Event()
        while True:
            try:
                self._connect(ANSWER_SECONDS).close()
                return max(0.0, deadline - clock.monotonic())
            except NoServer:
                if clock.monotonic() >= deadline:
                    raise
            pause.wait(RETRY_SECONDS)

    # --- one exchange -------------------------------------------------------------------------------------

    def _document(
        self, method: str, path: str, kind: type[DocumentT], query: dict[str, object], *, patient: bool
    ) -> DocumentT:
        response = self._ask(method, path, query, patient=patient)
        try:
            return document_from_json(response.read(), kind)
        except (http.client.HTTPException, OSError) as error:
            raise _cut_short() from error

    def _ask(self, method: str, path: str, query: dict[str, object], *, patient: bool) -> http.client.HTTPResponse:
        connection = self._connect(None if patient else ANSWER_SECONDS)
        try:
            connection.request(method, path + _query(query))
            response = connection.getresponse()
            if response.status >= 400:
                raise _refused(response.read())
        except TimeoutError as error:
            raise HostError(
                f"the server does not answer within {ANSWER_SECONDS:g} s", remedy="its log says what it does"
            ) from error
        except (http.client.HTTPException, OSError) as error:
            raise _cut_short() from error
        return response

    def _connect(self, timeout_seconds: float | None) -> _UnixConnection:
        connection = _UnixConnection(self._socket, timeout_seconds)
        try:
            connection.connect()
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NoServer(
                f"no server runs in {self._project}", remedy="start one with tqserver, or change to its directory"
            ) from None
        except OSError as error:
            raise HostError(
                f"cannot connect to {self._socket}: {error.strerror}", remedy="ask as the user that runs the server"
            ) from error
        return connection


def _query(given: dict[str, object]) -> str:
    """What is not given is left out; a flag is 1."""
    values = {
        name: "1" if value is True else value
        for name, value in given.items()
        if value is not None and value is not False and value != ""
    }
    return f"?{urlencode(values)}" if values else ""


def _cut_short() -> HostError:
    return HostError("the server ended before it answered", remedy="tqserver status says whether it runs again")


def _refused(body: bytes) -> TQError:
    refusal = document_from_json(to_json(from_json(body)["error"]), Refusal)
    location = Location(refusal.where) if refusal.where else None
    kind = _ERRORS.get(refusal.exit_code, TQError)
    return kind(refusal.message, remedy=refusal.remedy, location=location, output=refusal.output)
