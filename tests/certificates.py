"""Certificates that tests make, by the ``openssl`` command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tqserver.host.tls import read_certificate
from tqserver.wire.messages import Certificate


@dataclass(frozen=True, slots=True)
class Pair:
    """A self-signed certificate and its key."""

    cert: Path
    key: Path

    @classmethod
    def make(
        cls, directory: Path, *, days: int = 365, kind: str = "ec", names: str = "DNS:localhost,IP:127.0.0.1"
    ) -> Pair:
        """Make one. ``kind`` is "ec" or the bits of an RSA key; it expires in ``days``."""
        openssl = shutil.which("openssl")
        assert openssl, "these tests make certificates by openssl: apt-get install openssl"
        directory.mkdir(parents=True, exist_ok=True)
        pair = cls(directory / "cert.pem", directory / "key.pem")
        how = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else [f"rsa:{kind}"]
        more = ["-addext", f"subjectAltName={names}"] if names else []
        subprocess.run(
            [
                openssl, "req", "-x509", "-newkey", *how, "-nodes", "-days", str(days), "-subj", "/CN=localhost",
                "-out", str(pair.cert), "-keyout", str(pair.key), *more,
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        pair.key.chmod(0o600)
        return pair

    def read(self) -> Certificate:
        return read_certificate(self.cert, self.key)

    def client(self) -> ssl.SSLContext:
        """A client that believes in this certificate, and in no other, and in no end that is not said."""
        context = ssl.create_default_context(cafile=str(self.cert))
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # set by itself before Python 3.11.4 (gh-95494)
        return context

    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())

    def put_in_place_of(self, other: Pair) -> None:
        """Replace another pair's files as certbot does: one after the other, by renaming."""
        for mine, theirs in ((self.cert, other.cert), (self.key, other.key)):
            scratch = theirs.with_suffix(".new")
            shutil.copy2(mine, scratch)
            scratch.rename(theirs)
