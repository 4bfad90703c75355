"""Rules without a clock, a network or an event loop: everything that is decided, is decided here."""
