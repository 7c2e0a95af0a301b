"""The pages that tests serve. ``@VERSION@`` is what tells one code from the next."""

from __future__ import annotations

CHUNKS = 40  # of a download: it goes on across many reloads
CHUNK_BYTES = 2000

FUNCTIONS = """\
import asyncio
from tqserver.page import Request, Response
from starlette.responses import StreamingResponse

VERSION = "@VERSION@"


async def get(request: Request):
    if request.url.path.endswith("/download"):
        return StreamingResponse(download(), headers={"Content-Length": str(len(VERSION) + 40 * 2000)})
    return VERSION


async def download():
    yield VERSION.encode()
    for _ in range(40):
        await asyncio.sleep(0.05)
        yield b"." * 2000


async def post(request: Request):
    return Response(VERSION.encode() + b" " + await request.body())
"""

FASTAPI = """\
from fastapi import FastAPI, Request, Response

VERSION = "@VERSION@"
app = FastAPI()


@app.get("/")
async def read():
    return Response(VERSION)


@app.post("/")
async def echo(request: Request):
    return Response(VERSION.encode() + b" " + await request.body())


@app.get("/items/{item}")
async def item(item: int, request: Request):
    return {"version": VERSION, "item": item, "root": request.scope["root_path"]}
"""

WSGI = """\
VERSION = "@VERSION@"


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [VERSION.encode()]
"""

# Knows nothing of TQServer but the environment: what any language can do.
GO = """\
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const version = "@VERSION@"

func answer(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s", version, body)
	case strings.HasSuffix(r.URL.Path, "/download"):
		w.Header().Set("Content-Length", fmt.Sprint(len(version)+40*2000))
		io.WriteString(w, version)
		for range make([]int, 40) {
			time.Sleep(50 * time.Millisecond)
			io.WriteString(w, strings.Repeat(".", 2000))
			w.(http.Flusher).Flush()
		}
	default:
		io.WriteString(w, version)
	}
}

func listen() (net.Listener, error) {
	if socket := os.Getenv("TQ_SOCKET"); socket != "" {
		return net.Listen("unix", socket)
	}
	return net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
}

func main() {
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	http.HandleFunc("/", answer)
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, nil))
}
"""


def functions(version: str) -> str:
    """A page of functions: GET, POST that echoes, a slow download below it."""
    return FUNCTIONS.replace("@VERSION@", version)


def fastapi(version: str) -> str:
    """The same as an ASGI app, with a route of its own."""
    return FASTAPI.replace("@VERSION@", version)


def wsgi(version: str) -> str:
    """A WSGI app."""
    return WSGI.replace("@VERSION@", version)


def go(version: str) -> str:
    """The same as ``functions``, in Go without the SDK."""
    return GO.replace("@VERSION@", version)


def plain(version: str) -> str:
    """The shortest page there is."""
    return f'def get():\n    return "{version}"\n'
