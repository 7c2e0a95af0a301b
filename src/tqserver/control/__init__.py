"""Program 1: decides what runs.

supervisor      the server's life, from the lock to the last worker
parts           what a server is made of, connected
upgrade         a new server takes over from the one that runs
config_file     config/server.yaml on disk
site            the pages of the project: found, followed, let go
reconciler      * a file change: read, build, start, publish, retire - one page, one at a time
standing        what a page does for its clients right now, told to proxies and to the log
on_disk         what is on disk of one page, and what else it reads
attempt         one under way: it ends by itself, or when it is overtaken
goal            what an attempt is about: what is on disk, or a revision in its place
outgoing        its revisions that are out of the table, on their way to the end
past            what a page was: its revisions, and what a rollback has set aside
revisions       pure: which revisions are remembered, and which is gone back to
services        what every reconciler works with
plan            pure: what was found against what is known, what a change concerns, how long to back off
discovery       which directories are pages
watcher         which files changed: by events, checked against the disk; by polling where there are none
tree_events     inotify events of whole trees, as changes of paths
settling        when to tell of a change: when its writer has finished
scan            what is on disk, as far as stat tells, and what differs from the last look
pool            the workers of one revision: as many as are wanted, each well and within its limits
monitor         one running worker, looked at: health and memory
retirement      the end of workers: drained or cut, then stopped
load            what the proxies count, added up
agent           start and stop workers on a machine; the seam for other machines
worker_process  one worker: spawned, seen ready, stopped
zygotes         processes with modules imported, from which Python workers are forked
health          is there an answer on that endpoint
rows            pure: what of settings and failures the proxies are told
entrance        the listening sockets that clients come in by
certificates    the certificate of server.tls, and its renewal
publisher       snapshots out, acknowledgements in
proxies         the proxy processes and their links
collector       removes artifacts that nothing refers to
admin           the admin API: what the command line asks a running server
admin_socket    HTTP on .tqserver/admin.sock
serving         HTTP on a listening socket, within the event loop
spans           pure: a reload as spans of time
otlp            those as traces, for OpenTelemetry
metrics         what is measured, at one moment
exposition      that as text, for Prometheus
metrics_port    /metrics, and the port that has nothing else
operations      wait, reload and rollback: what the API has the server do
status          observes the parts into model.status
running         the parts, as status and operations see them
events          the last events of the log, numbered, and what they add up to
output          lines of output, for those who follow them
logs            the end of a page's log file
check           what can be said of a project without running it
doctor          what the machine has, and what it lacks
journal         revision numbers and what was learned of pages, across restarts
"""
