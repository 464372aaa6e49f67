"""The audit audited: bugs planted in copies of modern must be caught where they sit, harmless changes let through."""
