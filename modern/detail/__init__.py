"""The detail stage: a displacement map painted by a conditional generator, and its training (detail spec)."""
