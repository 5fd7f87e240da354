"""What every suite shares: pytest inside pytest, and the processes that `make coverage` measures."""

import os

pytest_plugins = ["pytester"]

# Workers of xdist are measured, but no processes of tests: some change their user, or are hit by signals anywhere.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
