"""One file per verb; each defines ``command``.

run         the server, in the foreground
new         a small project to begin with
status      what runs
routes      which page answers a URL, and why
check       what is wrong, without running anything
build       artifacts, without a server
logs        what pages print
events      what the server did
wait        until what is on disk is served
reload      fresh workers, changed or not
rollback    an earlier revision, in place of what is on disk
revisions   which there are
doctor      what the machine has, and what it lacks
completion  for the shell
"""
