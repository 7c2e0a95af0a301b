"""``python -m tqserver.proxy``."""

from tqserver.proxy.server import main

main()
