"""Writing that nobody waits for: a disk or a reader that is slow holds up a thread, and never the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

MOST_WAITING_BYTES = 4 * 2**20


class BackgroundWriter:
    """Calls ``write`` on a thread of its own, in order, with what is put here."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._put = 0  # bytes in all; each of the two numbers is changed by one thread only
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, text: bytes) -> bool:
        """Have ``text`` written; False, and it is dropped, if too much waits already."""
        if self._put - self._written + len(text) > MOST_WAITING_BYTES:
            return False
        self._put += len(text)
        self._queue.put(text)
        return True

    def close(self, seconds: float) -> bool:
        """Wait until all is written, but not for longer; tell whether it is."""
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (text := self._queue.get()) is not None:
            self._write(text)
            self._written += len(text)
