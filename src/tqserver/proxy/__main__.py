"""``python -m tqserver.proxy``: started by control."""

import sys

from tqserver.proxy.server import main

sys.exit(main())
