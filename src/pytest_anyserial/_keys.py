"""Keys of pytest's stashes, which hold the state of a run. This module imports none of the types stored there."""

from __future__ import annotations

from typing import Any

import pytest

#: The bench that a run works with (`_links.bench.Hardware`), in the stash of its config.
HARDWARE: pytest.StashKey[Any] = pytest.StashKey()
#: The watch over a test that uses a fixture of ours (`_guard.Guard`), in the stash of its item.
GUARD: pytest.StashKey[Any] = pytest.StashKey()
#: What the parts of the plugin share of such a test (`_test.SerialTest`), in the stash of its item.
TEST: pytest.StashKey[Any] = pytest.StashKey()
#: The link under a test once it is set up (`_links.link.SerialLink`), in the stash of its item.
LINK: pytest.StashKey[Any] = pytest.StashKey()
#: The item that is running, if it uses a fixture of ours, in the stash of the config.
RUNNING: pytest.StashKey[Any] = pytest.StashKey()
#: What records a test (`_recordings.recorder.Recorder`), in the stash of its item.
RECORDER: pytest.StashKey[Any] = pytest.StashKey()
#: What plays the far end of a recording (`_recordings.player.Player`), in the stash of the item.
PLAYER: pytest.StashKey[Any] = pytest.StashKey()
#: What a test on a bench is, `"failed"` or `"blocked"`, once one of its phases has failed, in the stash of the item.
VERDICT: pytest.StashKey[str] = pytest.StashKey()
#: The wire of a run of `--serial-mutate` (`_mutation.wire.TestWire`), in the stash of the item while it is run again.
WIRE: pytest.StashKey[Any] = pytest.StashKey()
