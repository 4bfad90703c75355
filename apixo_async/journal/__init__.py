"""The journal of bulk runs: what was to be bought, was bought, and came of it, in one file."""
