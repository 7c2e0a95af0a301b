"""What the proxy itself answers (DESIGN 5.6): short, and JSON or HTML for who asks for it.

In dev a failing page's error is shown with its place and output; in prod only the request id is.
"""

from __future__ import annotations

import html
from http import HTTPStatus

from tqserver.proxy.exchange import Exchange
from tqserver.wire.codec import to_json
from tqserver.wire.messages import Failure

RETRY_AFTER_SECONDS = 1
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {reason}</title>{refresh}
<style>
body{{font:16px/1.6 system-ui,sans-serif;margin:0;background:#fafafa;color:#18181b}}
main{{max-width:60rem;margin:4rem auto;padding:0 1.5rem}}
h1{{font-size:1.4rem}} .where{{color:#b91c1c;font-family:ui-monospace,monospace}}
pre{{background:#18181b;color:#fafafa;padding:1rem;border-radius:.5rem;overflow:auto;font-size:.85rem}}
footer{{color:#71717a;font-size:.85rem}}
@media (prefers-color-scheme:dark){{body{{background:#18181b;color:#fafafa}}pre{{background:#000}}}}
</style></head><body><main><h1>{status} {reason}</h1>{body}<footer>request {request}</footer></main></body></html>
"""


def reply(
    exchange: Exchange | None,
    status: int,
    message: str,
    *,
    close: bool,
    dev: bool,
    failure: Failure | None = None,
) -> bytes:
    """Return a whole response."""
    accept = b""
    request_id = exchange.request_id if exchange is not None else b""
    for name, value in exchange.fields if exchange is not None else ():
        if name == b"accept":
            accept = value
    shown = failure if dev else None
    kind, body = _body(accept, status, message, request_id.decode("ascii"), shown)
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, _reason(status).encode()),
        b"content-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n" % (kind, len(body)),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(b"retry-after: %d\r\n" % RETRY_AFTER_SECONDS)
    if close:
        lines.append(b"connection: close\r\n")
    if request_id:
        lines.append(b"x-request-id: %b\r\n" % request_id)
    is_head = exchange is not None and exchange.method == b"HEAD"
    return b"".join(lines) + b"\r\n" + (b"" if is_head else body)


def _reason(status: int) -> str:
    return HTTPStatus(status).phrase


def _body(accept: bytes, status: int, message: str, request_id: str, failure: Failure | None) -> tuple[bytes, bytes]:
    if b"application/json" in accept and b"text/html" not in accept:
        fields = {"status": status, "error": message, "request_id": request_id}
        if failure is not None:
            fields |= {"where": failure.where, "remedy": failure.remedy, "output": failure.output}
        return b"application/json", to_json(fields) + b"\n"
    if b"text/html" in accept:
        return b"text/html; charset=utf-8", _page(status, message, request_id, failure).encode()
    text = f"{status} {_reason(status)}: {message}\n"
    if failure is not None:
        text += "".join(f"{part}\n" for part in (failure.where, failure.remedy, failure.output) if part)
    return b"text/plain; charset=utf-8", text.encode()


def _page(status: int, message: str, request_id: str, failure: Failure | None) -> str:
    body = f"<p>{html.escape(message)}</p>"
    refresh = ""
    if failure is not None:
        refresh = '<meta http-equiv="refresh" content="1">'  # the mended page appears by itself
        if failure.where:
            body += f'<p class="where">{html.escape(failure.where)}</p>'
        if failure.remedy:
            body += f"<p>{html.escape(failure.remedy)}</p>"
        if failure.output:
            body += f"<pre>{html.escape(failure.output)}</pre>"
    return _PAGE.format(
        status=status, reason=_reason(status), refresh=refresh, body=body, request=html.escape(request_id)
    )
