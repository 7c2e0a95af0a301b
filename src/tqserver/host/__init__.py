"""The operating system, wrapped once: each dangerous call has one door, and it is here.

clock     time
tasks     asyncio tasks: every task has an owner, every error a way out
identity  users: whom a name in the configuration means
limits    what a worker takes on before the page: open files, cgroup, user
cgroup    memory limits that the kernel enforces, where it can
threads   work beside the event loop
process   spawn, adopt, signal, reap
descent   what is below a process, whatever it has done to hide
signals   SIGTERM, SIGINT, SIGHUP for a program's main loop
sockets   listening sockets, socket pairs, descriptors that travel with a frame
tls       a certificate and its key, read and proved; the context of a server
channel   frames over a socket, on the event loop
inotify   what changed in a directory, and whether the writer has finished
mounts    file systems that others write to without an event here
usage     what a process uses of the machine
limits    what the kernel allows a process
reading   files that users write, opened without waiting and read within a bound
ports     the pool that PORT is taken from
background  writing that nobody waits for
log       the server's own log, and the files that workers' output goes to
private   directories that nobody else may write to
terminal  what of both a person sees
rundir    .tqserver/: the lock, the sockets, and the sweep of what a crash left
"""
