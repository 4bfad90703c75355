"""`apixo run`: all rows of a file bought, watched, saved and reported, once each.

What was bought is in a journal beside the files. The same command goes on where it ended.
"""
