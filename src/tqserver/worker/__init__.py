"""Program 3: runs Python pages.

zygote     one thread, modules imported, forks workers and further zygotes
child      from the fork to a loaded page, in order
loader     page code by content: never from a timestamped .pyc
adapters   functions, ASGI or WSGI: to one ASGI app
templates  render(): Jinja2 over the page, then templates/
serve      Granian on the worker's socket
"""
