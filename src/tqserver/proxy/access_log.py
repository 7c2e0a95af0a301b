"""The access log: lines are gathered, and written by the tick or when they are many, on another thread.

Several proxies append to one file: each write is of whole lines, and the kernel lets one follow another (O_APPEND).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tqserver.host import clock
from tqserver.host.background import BackgroundWriter
from tqserver.host.log import DatedFile, OpenFile, get_logger
from tqserver.proxy import access_line
from tqserver.proxy.access_line import MAX_LINE_BYTES, Served
from tqserver.proxy.exchange import Exchange
from tqserver.wire.messages import ACCESS_JSON, AccessLogged

BATCH_BYTES = 64 * 1024
CLOSE_SECONDS = 2.0

log = get_logger("proxy")


class AccessLog:
    """Takes note of every request, or of a share of them."""

    def __init__(self, settings: AccessLogged, stdout: int) -> None:
        self.settings = settings
        self._loop = asyncio.get_running_loop()
        self._is_json = settings.format == ACCESS_JSON
        self._file = (
            DatedFile(Path(settings.file), {}, self._failed)
            if settings.file
            else OpenFile(stdout, "standard output", MAX_LINE_BYTES, self._failed)
        )
        self._writer = BackgroundWriter(self._file.write)
        self._lines: list[bytes] = []
        self._size = 0
        self._due = 0.0
        self._lost = 0
        self._second = 0
        self._moment = b""

    # --- lines --------------------------------------------------------------------------------------------

    def note(self, client: bytes, exchange: Exchange, served: Served, seconds: float) -> None:
        """A request has come to its end, after so many seconds."""
        if not self._is_due():
            return
        write = access_line.as_json if self._is_json else access_line.as_text
        self._add(write(self._now(), client, exchange, served, seconds))

    def note_malformed(self, client: bytes, status: int, request_id: bytes) -> None:
        """What came was no request, and was answered with this status."""
        if not self._is_due():
            return
        write = access_line.malformed_as_json if self._is_json else access_line.malformed_as_text
        self._add(write(self._now(), client, status, request_id))

    def _is_due(self) -> bool:
        """Tell whether this one belongs to the sample: evenly, and not by chance."""
        self._due += self.settings.sample
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True

    def _now(self) -> bytes:
        second = int(clock.wall())
        if second != self._second:
            self._second = second
            self._moment = (clock.timestamp(second) if self._is_json else clock.log_time(second)).encode()
        return self._moment

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH_BYTES:
            self.flush()

    # --- writing ------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand on what was gathered; where that is not taken, because too much waits, it is lost and counted."""
        if not self._lines:
            return
        if not self._writer.put(b"".join(self._lines)):
            self._lost += len(self._lines)
        self._lines.clear()
        self._size = 0

    def tick(self) -> None:
        """Write, and tell of what was lost."""
        self.flush()
        if self._lost:
            remedy = "what they are written to is too slow: see to it, or set server.access_log_sample"
            log.warning("access_log.lost", lines=self._lost, remedy=remedy)
            self._lost = 0

    def close(self) -> None:
        """Write what there is, and end."""
        self.tick()
        if not self._writer.close(CLOSE_SECONDS):
            log.warning("access_log.lost", remedy="what was not written within 2 s at the end is lost")
            return
        self._file.close()

    def _failed(self, reason: str) -> None:
        """Writing does not work, or works again: told by the thread that writes."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the proxy has ended
            self._loop.call_soon_threadsafe(_tell, reason)


def _tell(reason: str) -> None:
    log.error("access_log.failed", reason=reason)
