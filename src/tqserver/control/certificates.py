"""The certificate of ``server.tls``: read, proved, and followed, since it is renewed while the server runs.

Proxies get its bytes and not its path. So one pair is proved once and is that of all of them, also of one that starts
while the files are being replaced, and none of them needs the right to read the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from tqserver.host import clock
from tqserver.host.log import get_logger
from tqserver.host.tasks import TaskOwner
from tqserver.host.tls import BadCertificate, Proof, is_open_to_others, prove, read_certificate
from tqserver.model.config import TlsSettings
from tqserver.model.errors import Location
from tqserver.wire.messages import Certificate

PAIR_SECONDS = 2.0  # a certificate and its key are replaced one after the other: so long they need not fit
REMINDER_SECONDS = 86400.0
_LOOK_SECONDS = 0.2
log = get_logger("tls")


class Certificates:
    """Keeps what is shown equal to what the files hold, as long as that is a pair.

    ``where`` tells where a setting is given. ``on_renewal`` is called with each pair that takes the place of another.
    """

    on_renewal: Callable[[Certificate], None]

    def __init__(self, project: Path, where: Callable[..., Location], tasks: TaskOwner) -> None:
        self._project = project
        self._where = where
        self._tasks = tasks
        self._settings: TlsSettings | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._reminder: asyncio.TimerHandle | None = None
        self.shown: Certificate | None = None

    # --- settings -----------------------------------------------------------------------------------------

    def read(self, settings: TlsSettings | None) -> Certificate | None:
        """Return the pair of these settings, None without any. Raises :class:`BadCertificate`, with its place."""
        if settings is None:
            return None
        try:
            return read_pair(self._project, settings)[0]
        except BadCertificate as error:
            error.location = self._where("server", "tls", error.setting)
            raise

    def use(self, settings: TlsSettings | None, certificate: Certificate | None) -> None:
        """Show this pair from now on, which was read by these settings."""
        self._settings = settings
        before, self.shown = self.shown, certificate
        if certificate != before:
            self._tell()

    @property
    def files(self) -> list[str]:
        """What is to be watched."""
        return [] if self._settings is None else [str(file) for file in _files(self._project, self._settings)]

    def _tell(self) -> None:
        if self._reminder is not None:
            self._reminder.cancel()
        if self.shown is not None:
            proof = prove(self.shown)
            log.info("tls.certificate", names=", ".join(proof.names), ends=clock.timestamp(proof.ends_at))
            self._warn()

    def _warn(self) -> None:
        """Warn of what is wrong with it, and look again: a certificate grows old without a change."""
        if self._settings is None or self.shown is None:
            return
        self._reminder = asyncio.get_running_loop().call_later(REMINDER_SECONDS, self._warn)
        proof = prove(self.shown)
        _, key = _files(self._project, self._settings)
        for reason, remedy in warnings(proof, key):
            log.warning("tls.warning", reason=reason, remedy=remedy)

    # --- files --------------------------------------------------------------------------------------------

    def changed(self, paths: Collection[str]) -> None:
        """These paths changed."""
        if not set(paths).isdisjoint(self.files):
            self.look()

    def look(self) -> None:
        """Look whether the files hold another pair."""
        self._changed.set()
        if self._settings is not None and (self._renewing is None or self._renewing.done()):
            self._renewing = self._tasks.start(self._renew(), name="tls.renew")

    async def _renew(self) -> None:
        while self._changed.is_set():
            self._changed.clear()
            await self._take_over(clock.monotonic() + PAIR_SECONDS)

    async def _take_over(self, deadline: float) -> None:
        """Show what the files hold; if that is no pair by the deadline, say so and keep what is shown."""
        while (settings := self._settings) is not None:
            try:
                certificate = self.read(settings)
            except BadCertificate as error:
                if clock.monotonic() >= deadline:
                    log.error("tls.failed", error=str(error), remedy="the certificate before it is still shown")
                    return
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            if certificate is not None and certificate != self.shown:
                self.use(settings, certificate)
                self.on_renewal(certificate)
            return


def _files(project: Path, settings: TlsSettings) -> tuple[Path, Path]:
    return project / settings.cert, project / settings.key


def read_pair(project: Path, settings: TlsSettings) -> tuple[Certificate, Proof]:
    """Return a certificate and what is known of it. Raises :class:`BadCertificate`."""
    certificate = read_certificate(*_files(project, settings))
    return certificate, prove(certificate)


def examine(project: Path, settings: TlsSettings) -> tuple[Proof, list[tuple[str, str]]]:
    """Return what is known of a certificate, and what is wrong with it. Raises :class:`BadCertificate`."""
    _, proof = read_pair(project, settings)
    return proof, warnings(proof, _files(project, settings)[1])


def warnings(proof: Proof, key: Path) -> list[tuple[str, str]]:
    """Return what is wrong with a pair that works, each with its remedy."""
    found = list(proof.warnings())
    if is_open_to_others(key):
        found.append((f"every user of this machine may read {key}", f"chmod o-rwx {key}"))
    return found
