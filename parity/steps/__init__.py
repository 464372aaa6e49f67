"""Many training steps of both subjects, held against the growth of noise (`python -m parity steps`)."""
