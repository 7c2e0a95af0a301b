"""The ``tqserver`` command.

main       options and verbs; no verb means ``run``
session    what the options before and after the verb say
client     HTTP over the unix socket of the running server
output     what is printed: the one place that knows terminals
outcomes   what wait, reload and rollback print
failures   what is wrong with a page, wherever it is printed
findings   what check and doctor print
builder    what build does
commands/  one file per verb

Verbs are imported when they are called, and what is heavy within them when it is needed: ``status`` is quick.
"""
