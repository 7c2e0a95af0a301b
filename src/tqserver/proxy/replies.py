"""The answers that the proxy gives itself (DESIGN 5.6): short, and in the form the client asked for.

JSON or a page if Accept prefers one of them, plain text otherwise. In dev the page shows why and mends itself; in
production nothing of a failure is shown but the request id, which the log has too.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from zlib import crc32

from tqserver.model.config import DEV
from tqserver.wire import headers
from tqserver.wire.codec import to_json
from tqserver.wire.http1 import RequestHead
from tqserver.wire.messages import Failure

RETRY_AFTER_SECONDS = 1

_MESSAGES = {
    308: "The page is served over https.",
    400: "The request is malformed.",
    404: "No page answers this path.",
    408: "The request took too long to arrive.",
    413: "The request's body is too large.",
    414: "The request's target is too long.",
    417: "The expectation cannot be met.",
    431: "The request's head is too large.",
    501: "The method or the transfer coding is not supported.",
    502: "The page's worker ended or did not speak HTTP.",
    503: "The page cannot be served right now.",
    504: "The page's worker did not answer in time.",
    505: "HTTP/1.1 is spoken here.",
}

_WITHHELD = " The reason is told at localhost, at an IP address and at server.host only."


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. ``detail`` and ``failure`` are shown in dev, and not to foreign sites. ``fields`` are more lines,
    each with its CRLF in front.
    """

    status: int
    request_id: bytes
    keep_alive: bool
    detail: str = ""
    failure: Failure | None = None
    fields: bytes = b""

    @property
    def reason(self) -> str:
        """The status's name: "Bad Gateway"."""
        return HTTPStatus(self.status).phrase


def render(reply: Reply, request: RequestHead | None, *, mode: str, is_confided: bool, date: bytes) -> bytes:
    """Return the whole response. ``request`` is None if it could not be parsed.

    ``is_confided``: the client may see why.
    """
    message, shown = _told(reply, mode, is_confided)
    accept = headers.value_of(request.lines, b"accept") if request else b""
    media, body = _body(reply, accept, message, shown, mends_itself=is_confided and reply.status in _MENDING)
    lines = [
        b"HTTP/1.1 %d %b" % (reply.status, reply.reason.encode()),
        *_described(reply, media, body),
        b"Cache-Control: no-store",
        b"Date: " + date,
        b"X-Request-Id: " + reply.request_id,
    ]
    if reply.status == 503:
        lines.append(b"Retry-After: %d" % RETRY_AFTER_SECONDS)
    if not reply.keep_alive:
        lines.append(b"Connection: close")
    elif request is not None and request.minor == 0:
        lines.append(b"Connection: keep-alive")
    without_body = reply.status == 304 or (request is not None and request.method == b"HEAD")
    return b"\r\n".join(lines) + reply.fields + b"\r\n\r\n" + (b"" if without_body else body)


def _described(reply: Reply, media: bytes, body: bytes) -> list[bytes]:
    if reply.status == 304:  # it has no body, and what it would say of one would have to be true of the 200's
        return []
    return [b"Content-Type: %b; charset=utf-8" % media, b"Content-Length: %d" % len(body)]


def _told(reply: Reply, mode: str, is_confided: bool) -> tuple[str, Failure | None]:
    """Return the message and the failure that the client is told."""
    message = _MESSAGES.get(reply.status, reply.reason)
    if is_confided:
        return (reply.failure.message if reply.failure else reply.detail or message), reply.failure
    if mode == DEV and (reply.failure or reply.detail):
        message += _WITHHELD
    return message, None


def _body(
    reply: Reply, accept: bytes, message: str, shown: Failure | None, *, mends_itself: bool
) -> tuple[bytes, bytes]:
    if headers.prefers(accept, b"application/json", b"text/html"):
        return b"application/json", _as_json(reply, message, shown)
    if headers.prefers(accept, b"text/html", b"application/json"):
        return b"text/html", _as_page(reply, message, shown, mends_itself=mends_itself)
    return b"text/plain", _as_text(reply, message, shown)


def _as_json(reply: Reply, message: str, failure: Failure | None) -> bytes:
    fields = {"status": reply.status, "error": message, "request_id": reply.request_id.decode()}
    if failure is not None:
        more = {"remedy": failure.remedy, "where": failure.where, "output": failure.output}
        fields |= {name: text for name, text in more.items() if text}
    return to_json(fields) + b"\n"


def _as_text(reply: Reply, message: str, failure: Failure | None) -> bytes:
    paragraphs = [f"{reply.status} {reply.reason}: {message}"]
    if failure is not None:
        output = failure.output.rstrip().removesuffix(message).rstrip()  # a traceback ends with what was said above
        paragraphs += [text for text in (failure.where, failure.remedy, output) if text]
    paragraphs.append(f"request id: {reply.request_id.decode()}")
    return ("\n".join(paragraphs) + "\n").encode(errors="replace")


_PAGE = """\
<!doctype html>
<html lang="en" data-shown="{digest}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status} {reason}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --mark: #c0392b; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 8vh 1.5rem; }}
h1 {{ font-size: 1.4rem; border-left: .3rem solid var(--mark); padding-left: .8rem; margin: 0 0 1rem; }}
code, pre {{ font: .875rem/1.45 ui-monospace, monospace; }}
pre {{ border: 1px solid var(--line); border-radius: .4rem; padding: 1rem; overflow-x: auto; }}
.quiet {{ opacity: .65; font-size: .875rem; }}
</style>
{retry}</head>
<body>
<h1>{message}</h1>
{details}<p class="quiet">{status} {reason}, request {request_id}{hint}</p>
</body>
</html>
"""
# The page is loaded again when the answer would be another: no flicker, and what was scrolled to stays.
_RETRY = """\
<noscript><meta http-equiv="refresh" content="2"></noscript>
<script>
const look = async () => {{
  try {{
    const answer = await fetch(location.href, {{ cache: "no-store", headers: {{ Accept: "text/html" }} }});
    if (answer.status !== {status} || !(await answer.text()).includes('shown="{digest}"')) {{
      location.reload();
      return;
    }}
  }} catch {{ /* the server itself is being started again */ }}
  setTimeout(look, 1000);
}};
setTimeout(look, 1000);
</script>
"""
_MENDING = (502, 503, 504)


def _as_page(reply: Reply, message: str, failure: Failure | None, *, mends_itself: bool) -> bytes:
    details = _details(failure) if failure is not None else ""
    digest = crc32((message + details).encode(errors="replace"))
    page = _PAGE.format(
        digest=digest,
        status=reply.status,
        reason=reply.reason,
        retry=_RETRY.format(status=reply.status, digest=digest) if mends_itself else "",
        message=escape(message),
        details=details,
        request_id=escape(reply.request_id.decode()),
        hint=". This page loads again by itself when something has changed." if mends_itself else "",
    )
    return page.encode(errors="replace")


def _details(failure: Failure) -> str:
    parts = (
        ("<p><code>{}</code></p>\n", failure.where),
        ("<p>{}</p>\n", failure.remedy),
        ("<pre>{}</pre>\n", failure.output),
    )
    return "".join(form.format(escape(text)) for form, text in parts if text)
