"""What all tests share: Hypothesis asserts no time, since the machine may be busy."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("tqserver", deadline=None)
hypothesis.settings.load_profile("tqserver")
