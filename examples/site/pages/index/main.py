"""The page at /, and the answer to every path that no other page has."""

import os

from tqserver.page import Request, render

GREETING = "Hello from TQServer"  # <- change this text, save, and look at the browser

PAGES = [
    ("/users/1", "pages/users/[id]", "Functions named by HTTP methods; the last segment is a parameter."),
    ("/stream", "pages/stream", "Server-sent events, one each second, from an async generator."),
    ("/api/docs", "pages/api", "A FastAPI app with routes and documentation of its own."),
    ("/go", "pages/go", "A Go program, compiled when you save it."),
]


def get(request: Request):
    revision = os.environ["TQ_REVISION"]
    if request.url.path != "/":
        response = render("missing.html", path=request.url.path)
        response.status_code = 404
        return response
    if "application/json" in request.headers.get("accept", ""):
        return {"revision": revision}  # the page's script asks, to see that there is something newer
    return render("index.html", greeting=GREETING, pages=PAGES, revision=revision)
