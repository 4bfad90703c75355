"""Every byte to the API: what is sent, what an answer means, and what is sent again."""
