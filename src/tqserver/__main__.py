"""``python -m tqserver``."""

from tqserver.cli.main import main

main()
