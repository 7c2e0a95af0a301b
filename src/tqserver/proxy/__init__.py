"""Program 2: moves bytes between clients and workers, by the latest snapshot.

In reading order; what is pure is marked, and knows no event loop, socket or clock:

exchange     pure: the life of one request, decided; the others do what it says
admission    pure: what is refused before a worker hears of it
balancer     pure: which of a page's workers
forwarding   pure: what a worker is told about the client
downstream   a client's connection: reads requests, writes answers
upstream     a worker's connection: writes requests, reads answers
tunnel       pure: after an upgrade, frames are followed and bytes are not touched
flow         back-pressure: who reads waits for whom writes
dispatch     from a request to a worker's connection: choose, hold, try again
connections  the connections to workers: kept, checked, opened
table        the snapshot, and what is the case with its pages and workers
replies      the answers that the proxy gives itself
counters     what is counted for control
link         the messages from and to control
server       the program: listen, tick, leave
"""
