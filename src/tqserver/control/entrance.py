"""Where clients come in: the listening sockets. They are control's, and all proxies accept from them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tqserver.host import sockets
from tqserver.model.config import ServerSettings
from tqserver.model.errors import HostError, Location

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Entrance:
    """``main`` is where clients are served, over TLS if ``is_tls``; at ``redirect`` they are sent there."""

    main: socket.socket
    is_tls: bool = False
    redirect: socket.socket | None = None

    @classmethod
    def open(
        cls, server: ServerSettings, at_hand: Mapping[Address, socket.socket], where: Callable[..., Location]
    ) -> Entrance:
        """Listen as ``server`` says, by the sockets ``at_hand`` where these have the address.

        Raises :class:`HostError`, and then nothing is left open but what was at hand.
        """
        main_at, redirect_at = addresses(server)
        main = at_hand.get(main_at) or sockets.listen(*main_at)
        try:
            redirect = at_hand.get(redirect_at) or _listen_to_redirect(redirect_at, where) if redirect_at else None
        except HostError:
            if main_at not in at_hand:
                main.close()
            raise
        return cls(main, server.tls is not None, redirect)

    @property
    def sockets(self) -> list[socket.socket]:
        """All of them."""
        return [self.main] if self.redirect is None else [self.main, self.redirect]

    @property
    def arguments(self) -> list[str]:
        """What tells a proxy about them."""
        told = ["--listen-tls" if self.is_tls else "--listen", str(self.main.fileno())]
        return told if self.redirect is None else [*told, "--redirect", str(self.redirect.fileno())]

    @property
    def url(self) -> str:
        """The URL that clients are served at."""
        return sockets.url_of(self.main, "https" if self.is_tls else "http")

    def at_hand(self, server: ServerSettings) -> dict[Address, socket.socket]:
        """Return its sockets by the addresses that ``server`` had them opened at."""
        return {at: sock for at, sock in zip(addresses(server), (self.main, self.redirect), strict=True) if at and sock}

    def close(self, keeping: Entrance | None = None) -> None:
        """Close its sockets, but not those of another."""
        for sock in self.sockets:
            if keeping is None or sock not in keeping.sockets:
                sock.close()


def addresses(server: ServerSettings) -> tuple[Address, Address | None]:
    """Return where clients are served, and where they are redirected."""
    redirect_port = server.tls.redirect_port if server.tls is not None else None
    return (server.host, server.port), (server.host, redirect_port) if redirect_port is not None else None


def _listen_to_redirect(address: Address, where: Callable[..., Location]) -> socket.socket:
    try:
        return sockets.listen(*address, port_from="server.tls.redirect_port")
    except HostError as error:
        error.location = where("server", "tls", "redirect_port")
        raise
