"""The input side of `apixo run`: rows are read, checked, added up, and agreed to."""
