"""Rules without clock, network or event loop: what is decided, is decided here."""
