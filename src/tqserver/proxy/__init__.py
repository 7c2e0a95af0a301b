"""Program 2: moves bytes between clients and workers. A function of its latest snapshot.

exchange     * one request, from its head to the last byte of its response: what goes out, what happens next
admission    pure: is this request one that can be answered
balancer     pure: which worker
table        the snapshot, and what is the case of each worker
downstream   a client's connection
upstream     a connection to a worker
connections  endpoints, and the idle connections to them
flow         back-pressure
replies      what the proxy itself answers
link         snapshots in, acknowledgements out
server       the program
"""
