"""Program 1: decides what runs.

supervisor      the server's life, from the lock to the last worker
reconciler      * a file change: read, build, start, publish, retire - one page, one at a time
plan            pure: what was found against what is known, what a change concerns, how long to back off
discovery       which directories are pages
watcher         which files changed, and whether their writers have finished
pool            the workers of one revision, kept at their number
agent           start and stop workers on a machine; the seam for other machines
worker_process  one worker: spawned, seen ready, stopped
zygotes         processes with modules imported, from which Python workers are forked
health          is there an answer on that endpoint
publisher       snapshots out, acknowledgements in
proxies         the proxy processes and their links
admin           the admin API: what the command line asks a running server
admin_socket    HTTP on .tqserver/admin.sock
operations      wait and reload: what the API has the server do
status          observes the parts into model.status
running         the parts, as status and operations see them
events          the last events of the log, numbered, and what they add up to
output          lines of output, for those who follow them
logs            the end of a page's log file
traffic         what the proxies counted, added up
check           what can be said of a project without running it
doctor          what the machine has, and what it lacks
journal         revision numbers and what was learned of pages, across restarts
"""
