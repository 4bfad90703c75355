"""Many inputs through one client: read, bought and handed out, a bounded number at once."""
