"""Program 2: moves bytes between clients and workers, by the latest snapshot.

In reading order; what is pure is marked, and knows no event loop, socket or clock:

exchange   * pure: the life of one request, decided; the others do what it says
admission    pure: what is refused before a worker hears of it
balancer     pure: which of a page's workers
forwarding   pure: what a worker is told about the client
overlay      pure: the error of a broken save, over the page that still serves
public       pure: the files of a page that need no worker, and how they are answered
tunnel       pure: after an upgrade, frames are followed and bytes are not touched
downstream   a client's connection: requests are read from it in order
relay        a request on its way to a worker, and its answer back
upstream     a worker's connection: requests are written to it, answers read from it
files        a file of a page, opened so that it is certainly one of it
sending      a file on its way to a client
flow         back-pressure: who reads waits for whom writes
dispatch     from a request to a worker's connection: choose, hold, try again
clients      how many there may be, and who gives way
connections  the connections to workers: kept, checked, opened
table        the snapshot, and what is the case with its pages and workers
replies      the answers that the proxy gives itself
home         what all connections of a proxy share
access_log   a line for each request, written by another thread
access_line  pure: that line
counters     what is counted for control
ticker       coarse time: one timer for all
handshakes   TLS: connections that are not clients yet
link         the messages from and to control
server       the program: listen, tick, leave
"""
