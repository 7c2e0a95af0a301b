"""What a person sees of a server that was started from a terminal: little, and all that matters."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tests.system import sources
from tests.system.harness import Server, wait_until

PRINTS = 'print("loaded")\n\n\ndef get():\n    print("asked")\n    return 1 / 0\n'


class Screen:
    """The other end of a terminal, read as it comes."""

    def __init__(self) -> None:
        self._ours, self.fd = os.openpty()
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while received := self._received():
            self.text += received.decode(errors="replace")
        os.close(self._ours)

    def _received(self) -> bytes:
        try:
            return os.read(self._ours, 65536)
        except OSError:  # nobody has the terminal open any more
            return b""

    @property
    def lines(self) -> list[str]:
        """What it shows, without the time of day."""
        return [line[9:] if line[2:3] == ":" else line for line in self.text.splitlines()]

    def wait(self, line: str) -> int:
        """Wait for a line; return its place."""
        wait_until(lambda: line in self.lines, lambda: f"{line!r} on the terminal:\n{self.text}")
        return self.lines.index(line)

    def close(self) -> None:
        os.close(self.fd)  # the server may still have it: who reads goes on until that ends


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


def show(server: Server, screen: Screen) -> None:
    server.launch(env={"NO_COLOR": "1"}, terminal_fd=screen.fd)


def test_the_last_word_of_a_start_is_where_it_is(server: Server, screen: Screen) -> None:
    server.expect_errors("page.failed")
    server.page("api", sources.functions("v0"))
    server.page("index", sources.functions("v0"))
    server.page("typo", "def get(:\n")
    show(server, screen)
    server.wait_log("server.serving")
    screen.wait(f"✓ TQServer is ready at http://127.0.0.1:{server.port} (dev, 2 pages); broken: /typo")
    assert screen.lines[-1].startswith("✓ TQServer is ready")
    assert {line.partition(" in ")[0] for line in screen.lines if " live in " in line} == {
        "✓ page /api live",
        "✓ page / live",
    }
    assert "✗ page /typo: pages/typo/main.py:1: SyntaxError: invalid syntax" in screen.lines
    server.stop()
    assert screen.lines[-2:] == ["· stopping", "· stopped"]


def test_a_page_that_still_starts_is_named(server: Server, screen: Screen) -> None:
    server.page("slow", "import time\n\ntime.sleep(7)\n" + sources.functions("v0"))
    show(server, screen)
    screen.wait(f"✓ TQServer is ready at http://127.0.0.1:{server.port} (dev, 0 pages); still starting: /slow")
    server.wait_live("slow")


def test_what_a_page_prints_is_shown_as_its_own(server: Server, screen: Screen) -> None:
    server.page("shop", PRINTS)
    show(server, screen)
    server.wait_live("shop")
    assert server.get("/shop").status == 500
    screen.wait("/shop | loaded")
    screen.wait("/shop | asked")
    screen.wait("/shop | ZeroDivisionError: division by zero")


def test_an_error_is_shown_once_with_its_place_and_remedy(server: Server, screen: Screen) -> None:
    server.expect_errors("page.failed")
    server.page("shop", 'print("before")\nimport no_such_module\n')
    show(server, screen)
    at = screen.wait("✗ page /shop: pages/shop/main.py:2: ModuleNotFoundError: No module named 'no_such_module'")
    screen.wait("    ModuleNotFoundError: No module named 'no_such_module'")
    assert "pip install no_such_module" in screen.lines[at + 1]
    assert [line for line in screen.lines if line.startswith("/shop | ")][:1] == ["/shop | before"]
    assert "/shop | ModuleNotFoundError: No module named 'no_such_module'" not in screen.lines
