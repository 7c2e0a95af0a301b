"""Certificates: what works, what does not and why, what is told of those that do."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.certificates import Pair
from tqserver.control.certificates import Certificates, examine
from tqserver.host import log
from tqserver.host.tasks import TaskOwner
from tqserver.host.tls import BadCertificate, prove, read_certificate
from tqserver.model.config import TlsSettings
from tqserver.model.errors import Location


@pytest.mark.parametrize("kind", ["ec", "2048"])
def test_what_is_known_of_a_pair(tmp_path: Path, kind: str) -> None:
    pair = Pair.make(tmp_path, kind=kind, names="DNS:example.org,IP:127.0.0.1")
    proof = prove(pair.read())
    assert proof.names == ("example.org", "127.0.0.1")
    assert round((proof.ends_at - proof.begins_at) / 86400) == 365
    assert list(proof.warnings()) == []


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def no_certificate(pair: Pair) -> None:
    pair.cert.unlink()


def no_key(pair: Pair) -> None:
    pair.key.unlink()


def exchanged(pair: Pair) -> None:
    content = pair.cert.read_text(), pair.key.read_text()
    pair.key.write_text(content[0])
    pair.cert.write_text(content[1])


def key_is_no_key(pair: Pair) -> None:
    pair.key.write_text(pair.cert.read_text())


def damaged_certificate(pair: Pair) -> None:
    lines = pair.cert.read_text().splitlines(keepends=True)
    pair.cert.write_text("".join([*lines[:3], *lines[-1:]]))


def damaged_key(pair: Pair) -> None:
    lines = pair.key.read_text().splitlines(keepends=True)
    pair.key.write_text("".join([lines[0], *lines[-1:]]))


def another_key(pair: Pair) -> None:
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(pair.key))


def a_key_of_another_kind(pair: Pair) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-out", str(pair.key))


def encrypted_key(pair: Pair) -> None:
    plain = pair.key.rename(pair.key.with_suffix(".plain"))
    openssl("pkey", "-in", str(plain), "-aes128", "-passout", "pass:secret", "-out", str(pair.key))


def short_key(pair: Pair) -> None:
    Pair.make(pair.cert.parent, kind="1024")


def for_clients(pair: Pair) -> None:
    openssl(
        "req", "-x509", "-key", str(pair.key), "-subj", "/CN=x", "-addext", "extendedKeyUsage=clientAuth",
        "-out", str(pair.cert),
    )  # fmt: skip


BROKEN = {
    no_certificate: ("cert", "cert.pem: No such file or directory", "correct server.tls.cert"),
    no_key: ("key", "key.pem: No such file or directory", "correct server.tls.key"),
    exchanged: ("cert", "holds no certificate", "PEM"),
    key_is_no_key: ("key", "holds no private key", "PEM"),
    damaged_certificate: ("cert", "the certificate cannot be read", "openssl x509"),
    damaged_key: ("key", "the private key cannot be used", "openssl pkey"),
    another_key: ("key", "not that of the certificate", "the pair's own key"),
    a_key_of_another_kind: ("key", "not that of the certificate", "the pair's own key"),
    encrypted_key: ("key", "is encrypted", "openssl pkey"),
    short_key: ("cert", "too short", "2048"),
    for_clients: ("cert", "clients would refuse the certificate: unsuitable certificate purpose", "for a server"),
}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_what_does_not_work(tmp_path: Path, breaks: type) -> None:
    pair = Pair.make(tmp_path)
    breaks(pair)
    setting, message, remedy = BROKEN[breaks]
    with pytest.raises(BadCertificate) as caught:
        prove(read_certificate(pair.cert, pair.key))
    assert caught.value.setting == setting
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def warnings_of(pair: Pair) -> list[str]:
    _, warnings = examine(Path("/"), TlsSettings(str(pair.cert), str(pair.key)))
    return [reason for reason, _ in warnings]


def test_what_works_and_is_not_well(tmp_path: Path) -> None:
    nameless = Pair.make(tmp_path / "nameless", names="")
    assert "names no host" in warnings_of(nameless)[0]
    soon = Pair.make(tmp_path / "soon", days=3)
    assert "expires at" in warnings_of(soon)[0]
    open_key = Pair.make(tmp_path / "open")
    open_key.key.chmod(0o644)
    assert "every user of this machine may read" in warnings_of(open_key)[0]


def test_an_expired_certificate_is_told_of_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair.make(tmp_path, days=1)
    ends_at = prove(pair.read()).ends_at
    monkeypatch.setattr("tqserver.host.clock.wall", lambda: ends_at + 1)
    assert "expired at" in warnings_of(pair)[0]
    monkeypatch.setattr("tqserver.host.clock.wall", lambda: ends_at - 2 * 86400)
    assert "not valid before" in warnings_of(pair)[0]


async def test_a_certificate_that_grows_old_is_told_of_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqserver.control.certificates.REMINDER_SECONDS", 0.01)
    pair = Pair.make(tmp_path, days=3)
    settings = TlsSettings(str(pair.cert), str(pair.key))
    certificates = Certificates(tmp_path, lambda *_: Location("server.yaml"), TaskOwner(lambda *_: None))
    said: list[str] = []
    log.configure(quiet=True, file=None)
    log.tap(lambda event, _: said.append(str(event["event"])))
    try:
        certificates.use(settings, certificates.read(settings))
        async with asyncio.timeout(10):
            while said.count("tls.warning") < 3:
                await asyncio.sleep(0.01)
        certificates.use(None, None)
    finally:
        log.tap(None)
    assert said.count("tls.certificate") == 1


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    certificate = Pair.make(tmp_path).read()
    assert "PRIVATE" not in f"{certificate!r} {certificate}"
