"""The product from outside: a real server, real pages, real connections.

harness   a project in a temporary directory and the server that runs in it
client    HTTP/1.1 and WebSocket as a client speaks them, strict about what comes back
load      requests without a pause, each of them recorded and judged
editors   the ways in which editors save
sources   the pages that tests serve
"""
