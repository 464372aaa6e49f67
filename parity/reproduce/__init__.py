"""Will the same code reproduce? Each cause of variation switched alone, in fresh processes, against a baseline."""
