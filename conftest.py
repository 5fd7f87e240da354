"""What every suite shares: pytest inside pytest, and Hypothesis without a deadline."""

from hypothesis import settings

pytest_plugins = ["pytester"]

# A machine that is busy elsewhere may take long over one example; pytest-timeout bounds the test as a whole.
settings.register_profile("anyserial", deadline=None)
settings.load_profile("anyserial")
