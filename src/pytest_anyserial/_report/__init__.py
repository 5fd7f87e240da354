"""What a test leaves behind: sections, files, the adapter report, the outcome of a run."""
