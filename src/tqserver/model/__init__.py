"""Nouns, states and rules. Nothing here reads a file, a socket or a clock.

errors     a mistake, whose it is, and what to do about it
pages      a directory that answers a URL
routing    which page answers a path
lifecycle  the states of a worker and of a page, and the moves between them
config     every setting: its type, default, meaning
settings   text to config: strict, with file, line and column
"""
