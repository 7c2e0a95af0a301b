"""Bytes to messages and back. No I/O.

codec     msgpack and JSON, strict: the one place that knows msgspec
frames    a length, then that many bytes
messages  all that control, proxies, zygotes and workers say to one another
headers   field names and values: which go on, which stop here
http1     request and response heads: judged, and taken apart
bodies    where a body ends, however it was split
"""
