"""What an account may do now: tasks at once, requests of any 60 seconds, and whose turn it is."""
