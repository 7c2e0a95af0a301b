"""The ``tqserver`` command.

main  options and verbs; today ``run``, which is also what no verb means
"""
