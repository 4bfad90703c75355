"""The journal of bulk runs: what was meant to be bought, was bought, and came of it, in a file."""
