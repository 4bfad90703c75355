"""When to ask for a task, and what the answer means for it."""
