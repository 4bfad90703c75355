"""The `apixo` command: the client, the simulator and the documents' figures, from a terminal."""
