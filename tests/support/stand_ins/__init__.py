"""Stand-ins for engines that are too large to install: their decorators, as the guides use them.

Each runs what it is given twice, as after a crash, and fails unless both times give the same.
"""
