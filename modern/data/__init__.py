"""Clips of three frames: reading the lab's folders, choosing windows, sampling, splitting and collating."""
