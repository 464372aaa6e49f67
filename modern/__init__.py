"""The coarse model on three frames and its training: a clean implementation with the same numbers as the original."""
