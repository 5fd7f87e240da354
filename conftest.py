"""What every suite shares: pytest inside pytest."""

pytest_plugins = ["pytester"]
