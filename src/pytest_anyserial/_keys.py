"""Where a run keeps its state: keys of pytest's stashes. This module imports nothing of what they lead to."""

from __future__ import annotations

from typing import Any

import pytest

#: The bench that a run works with (`_links.hardware.Hardware`), in the stash of its config.
HARDWARE: pytest.StashKey[Any] = pytest.StashKey()
#: The watch over a test that uses a fixture of ours (`_guard.Guard`), in the stash of its item.
GUARD: pytest.StashKey[Any] = pytest.StashKey()
#: The watch over the test that is running, in the stash of the config.
RUNNING: pytest.StashKey[Any] = pytest.StashKey()
