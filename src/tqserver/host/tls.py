"""TLS: a certificate with its key, read and proved, and the context that a server speaks by.

A pair is proved by shaking hands with it, in memory: what a client would refuse is found before any client does.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tqserver.host import clock
from tqserver.model.errors import HostError
from tqserver.wire.messages import Certificate

# TLS 1.2 with forward secrecy and authenticated encryption only (RFC 9325 4.2); those of TLS 1.3 are all good.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL: dates are judged here, and only told
_FLIGHTS = 3  # of a handshake, at most, each way
_CHAIN = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
SOON_SECONDS = 14 * 86400  # certbot renews a month before the end: at two weeks something does not work


class BadCertificate(HostError):
    """The certificate, or its key, cannot be used. ``setting`` of server.tls says which: "cert" or "key"."""

    def __init__(self, setting: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a certificate. ``names`` are the hosts that it is for; times are seconds since the epoch."""

    names: tuple[str, ...]
    begins_at: float
    ends_at: float

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield what clients will find wrong with it, or soon, each with its remedy."""
        now = clock.wall()
        if now < self.begins_at:
            yield f"the certificate is not valid before {clock.timestamp(self.begins_at)}", "check this machine's clock"
        if now > self.ends_at:
            yield f"the certificate expired at {clock.timestamp(self.ends_at)}", "renew it"
        elif now > self.ends_at - SOON_SECONDS:
            yield f"the certificate expires at {clock.timestamp(self.ends_at)}", "renew it, or see why nothing does"
        if not self.names:
            yield "the certificate names no host (subjectAltName), so browsers refuse it", "have one made that does"


# --- files ------------------------------------------------------------------------------------------------


def read_certificate(cert: Path, key: Path) -> Certificate:
    """Return what two files hold. Raises :class:`BadCertificate`."""
    certificate = Certificate(_read("cert", cert), _read("key", key))
    if not _CHAIN.search(certificate.chain):
        raise BadCertificate("cert", f"{cert} holds no certificate", "it must be PEM: -----BEGIN CERTIFICATE-----")
    if not _KEY.search(certificate.key):
        raise BadCertificate("key", f"{key} holds no private key", "it must be PEM: -----BEGIN PRIVATE KEY-----")
    return certificate


def _read(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        remedy = "the server's user must be able to read it"
        if isinstance(error, FileNotFoundError):
            remedy = f"make it, or correct server.tls.{setting}"
        raise BadCertificate(setting, f"{file}: {error.strerror}", remedy) from error


def is_open_to_others(key: Path) -> bool:
    """Tell whether users that are neither the file's owner nor of its group may read or change it."""
    try:
        return bool(key.stat().st_mode & 0o007)
    except OSError:
        return False


# --- contexts ---------------------------------------------------------------------------------------------


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return the context that a server speaks by with this certificate. Raises :class:`BadCertificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _as_file(certificate.chain) as chain, _as_file(certificate.key) as key:
            context.load_cert_chain(chain, key, password=_refuse_encrypted)
    except ssl.SSLError as error:
        raise _translated(error, certificate) from error
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give a file in memory a name: OpenSSL reads keys from files, and this one must not come to lie on a disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _refuse_encrypted() -> NoReturn:
    raise BadCertificate(
        "key", "the private key is encrypted", "nobody could type its password: openssl pkey -in KEY -out PLAIN_KEY"
    )


def _translated(error: ssl.SSLError, certificate: Certificate) -> BadCertificate:
    if error.reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):  # of one kind; of two
        return BadCertificate("key", "the private key is not that of the certificate", "give the pair's own key")
    if error.reason == "EE_KEY_TOO_SMALL":
        return BadCertificate(
            "cert", "the certificate's key is too short", "use 2048 bits of RSA, or an elliptic curve"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=_leaf(certificate))
    except ssl.SSLError:
        return BadCertificate("cert", "the certificate cannot be read", "openssl x509 -in CERT -text says why")
    reason = f" ({error.reason})" if error.reason else ""
    return BadCertificate("key", f"the private key cannot be used{reason}", "openssl pkey -in KEY -check says why")


def _leaf(certificate: Certificate) -> str:
    found = _CHAIN.search(certificate.chain)
    return found[0].decode("ascii", "replace") if found else ""


# --- the proof --------------------------------------------------------------------------------------------


def prove(certificate: Certificate) -> Proof:
    """Shake hands with a certificate, as the proxies will. Raises :class:`BadCertificate`."""
    server = server_context(certificate)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        client.load_verify_locations(cadata=_leaf(certificate))  # whoever has signed it, it is to be trusted here
        shown = _shake_hands(client, server)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise BadCertificate(
            "cert", f"clients would refuse the certificate: {reason}", "have one made for a server"
        ) from error
    return Proof(
        tuple(name for kind, name in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")),
        ssl.cert_time_to_seconds(shown["notBefore"]),
        ssl.cert_time_to_seconds(shown["notAfter"]),
    )


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """Return what the client sees of the server's certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up)
    answering = server.wrap_bio(up, down, server_side=True)
    for side in (asking, answering) * _FLIGHTS:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return asking.getpeercert() or {}
