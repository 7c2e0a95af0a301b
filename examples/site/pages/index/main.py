"""The page at /. Change GREETING, save, and reload the browser."""

from tqserver.page import Request, Response, render

GREETING = "A URL is a directory, a save is a deployment"


def get(request: Request) -> Response:
    return render("index.html", greeting=GREETING, path=request.url.path)
