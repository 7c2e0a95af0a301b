"""TQServer: a URL is a directory, a save is a deployment.

Three programs, one direction (see ``docs/architecture.md``):

model/      nouns, states and rules; no I/O
wire/       bytes to messages and back; no I/O
host/       the operating system, wrapped once
build/      source to artifact
control/    program 1: decides what runs (supervisor)
proxy/      program 2: moves bytes between clients and workers
worker/     program 3: runs Python pages
page.py     what a page author imports
cli/        the ``tqserver`` command
"""

__version__ = "0.1.0"
