"""Nouns, states and rules. Nothing here reads a file, a socket or a clock.

errors     a mistake, whose it is, and what to do about it
text       what others wrote, as it is shown
pages      a directory that answers a URL
routing    which page answers a path
explain    why that page and no other
lifecycle  the states of a worker and of a page, and the moves between them
kinds      how a value of each kind of setting is written
config     every setting: its kind, default, meaning
yaml_text  YAML to nodes, within bounds
given      what the file and the environment give, each value with its place
settings   text to config: strict, with file, line and column
latency    how long answers take: buckets, and what counts tell
status     what is the case, as shown to people and programs
"""
