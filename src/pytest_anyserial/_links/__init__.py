"""The links that a test can run on, and what each can do."""
