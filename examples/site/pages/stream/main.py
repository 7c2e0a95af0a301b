"""/stream is a page for a browser, and a stream for a program; /stream/events is the stream for everyone."""

import asyncio
import json
import os
from datetime import datetime

from tqserver.page import Request, Response, render, sse

EVERY_SECONDS = 1.0  # <- change this: the browser connects again, to the new code


def get(request: Request):
    match request.url.path.removeprefix("/stream").strip("/"):
        case "" if "text/html" in request.headers.get("accept", ""):
            return render("stream.html")
        case "" | "events":
            return sse(ticks())
        case _:
            return Response("Not Found\n", 404)


async def ticks():
    number = 0
    while True:
        number += 1
        now = datetime.now().strftime("%H:%M:%S")
        yield json.dumps({"number": number, "time": now, "revision": os.environ["TQ_REVISION"]})
        await asyncio.sleep(EVERY_SECONDS)
