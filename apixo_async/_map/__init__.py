"""`client.map`: many inputs, read, bought and handed out, a bounded number at once."""
