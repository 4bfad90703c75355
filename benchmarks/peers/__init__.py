"""The clients that are compared, and for each a small local server of the shape it expects."""
