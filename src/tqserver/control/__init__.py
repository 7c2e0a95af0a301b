"""Program 1: decides what runs.

supervisor      the server's life, from the lock to the last worker
reconciler      * a file change: read, build, start, publish, retire - one page, one at a time
plan            pure: what was found against what is known, what a change concerns, how long to back off
discovery       which directories are pages
watcher         which files changed: by events, checked against the disk; by polling where there are none
tree_events     inotify events of whole trees, as changes of paths
settling        when to tell of a change: when its writer has finished
scan            what is on disk, as far as stat tells, and what differs from the last look
pool            the workers of one revision, kept at their number
agent           start and stop workers on a machine; the seam for other machines
worker_process  one worker: spawned, seen ready, stopped
zygotes         processes with modules imported, from which Python workers are forked
health          is there an answer on that endpoint
publisher       snapshots out, acknowledgements in
proxies         the proxy processes and their links
collector       removes artifacts that nothing refers to
journal         revision numbers and what was learned of pages, across restarts
"""
