"""Every byte to the API: what is sent, what an answer means, and when a request is repeated."""
