"""The error of a broken save, shown in the browser over the page that still serves (in dev only).

While the last good revision answers, what it answers to a browser that opens a document gets one block of HTML
behind its last byte. The answer is neither held back nor read: only its head is looked at, so that what a
program asks for is passed on byte for byte. The block asks once a second whether it is still true, by the failure's
entity tag, which is answered here for as long as it is. Why so: docs/decisions/0007.
"""

from __future__ import annotations

from functools import lru_cache
from html import escape
from zlib import crc32

from tqserver.wire import headers
from tqserver.wire.http1 import RequestHead, ResponseHead
from tqserver.wire.messages import Failure

_DESTINATIONS = (b"document", b"iframe")  # https://www.w3.org/TR/fetch-metadata/#sec-fetch-dest-header
# They describe the answer without the block (RFC 9110 8.8, 14.3; RFC 9530), and nobody shall keep one with it.
_NO_LONGER_TRUE = frozenset((
    b"etag", b"last-modified", b"accept-ranges", b"content-md5", b"digest", b"content-digest", b"repr-digest",
    b"cache-control", b"expires",
))  # fmt: skip


def append_to(request: RequestHead, response: ResponseHead, failure: Failure) -> tuple[ResponseHead, bytes]:
    """Return a head that is true of this answer and the block at its end, and the block; b"" if it is not for it."""
    if not (_is_for_a_window(request) and _is_whole_document(response)):
        return response, b""
    lines = headers.without(response.lines, _NO_LONGER_TRUE) + b"\r\nCache-Control: no-store"
    return response.with_lines(lines), block(failure)


def still_shows(request: RequestHead, failure: Failure) -> bool:
    """Tell whether this is a block that asks if it is still true, and it is (RFC 9110 13.1.2)."""
    return request.method == b"GET" and headers.value_of(request.lines, b"if-none-match") == _tag(failure).encode()


@lru_cache(maxsize=16)
def _tag(failure: Failure) -> str:
    """Return the entity tag of what is shown: no page makes one that begins so."""
    shown = "\0".join((failure.message, failure.remedy, failure.where, failure.output))
    return f'"tqserver-error-{crc32(shown.encode(errors="replace")):08x}"'


def _is_for_a_window(request: RequestHead) -> bool:
    """Whether a browser shows the answer as a document of its own; it is the one who says so, never a script."""
    return request.method == b"GET" and headers.value_of(request.lines, b"sec-fetch-dest") in _DESTINATIONS


def _is_whole_document(response: ResponseHead) -> bool:
    """Whether this is HTML to the end, that bytes can be put behind."""
    if response.status < 200 or response.status in (204, 205, 206, 304):
        return False
    if headers.value_of(response.lines, b"content-encoding"):
        return False
    media, _, parameters = headers.value_of(response.lines, b"content-type").lower().partition(b";")
    return media.strip() == b"text/html" and b"utf-16" not in parameters  # the block is ASCII


# A shadow root keeps the page's styles out and ours in, and is made by the parser. A dialog's form closes it.
_BLOCK = """
<tqserver-error><template shadowrootmode="open"><style>
:host {{ all: initial; }}
dialog {{ color-scheme: light dark; --line: #8884; --mark: #c0392b; background: Canvas; color: CanvasText;
  position: fixed; inset: auto 1rem 1rem 1rem; margin: 0 auto; z-index: 2147483647; box-sizing: border-box;
  max-width: 60rem; width: auto; max-height: 70vh; overflow: auto; padding: 1rem 1.5rem; border: 1px solid var(--line);
  border-radius: .4rem; box-shadow: 0 .5rem 2rem #0006; font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.2rem; border-left: .3rem solid var(--mark); padding-left: .8rem; margin: 0 3rem .8rem 0; }}
p {{ margin: .5rem 0; }}
code, pre {{ font: .875rem/1.45 ui-monospace, monospace; }}
pre {{ border: 1px solid var(--line); border-radius: .4rem; padding: 1rem; margin: .5rem 0; overflow-x: auto; }}
summary {{ cursor: pointer; }}
.quiet {{ opacity: .65; font-size: .875rem; }}
button {{ position: absolute; top: .8rem; right: 1rem; font: inherit; padding: 0 .6rem; cursor: pointer; }}
</style><dialog open aria-label="TQServer: the last save is broken"><form method="dialog">\
<button title="Close this; it comes again with the next load">&#215;</button></form>
<h1>{message}</h1>
{details}<p class="quiet">The page behind this is served by the last revision that works. \
It loads again by itself when the next one does.</p>
</dialog></template>
<script>{{
  const dialog = document.currentScript.parentNode.shadowRoot?.querySelector("dialog");
  const look = async () => {{
    if (!dialog?.open) return;
    try {{
      const answer = document.hidden || await fetch(location.href, {{ headers: {{ "If-None-Match": '{tag}' }} }});
      if (answer !== true && answer.status !== 304) return location.reload();
    }} catch {{ /* the server itself is being started again */ }}
    setTimeout(look, 1000);
  }};
  setTimeout(look, 1000);
}}</script></tqserver-error>
"""
_PARTS = (
    ("<p><code>{}</code></p>\n", "where"),
    ("<p>{}</p>\n", "remedy"),
    ("<details open><summary>Output</summary><pre>{}</pre></details>\n", "output"),
)


@lru_cache(maxsize=16)
def block(failure: Failure) -> bytes:
    """Return the HTML that shows a failure. It is ASCII, and so right in whatever the document is encoded."""
    details = "".join(form.format(escape(text)) for form, name in _PARTS if (text := getattr(failure, name)))
    shown = _BLOCK.format(message=escape(failure.message), details=details, tag=_tag(failure))
    return shown.encode("ascii", "xmlcharrefreplace")
