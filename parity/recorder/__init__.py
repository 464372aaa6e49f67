"""The recorder that travels: `parity_recorder.py` is copied as it is, so nothing else belongs here."""
