"""The proxy, pure and real: bytes in, bytes out, and what the worker saw.

rig           a real proxy process between blocking sockets that a test reads and writes
transcripts   the files test_*.py: each test tells one exchange from top to bottom
"""
