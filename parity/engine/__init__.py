"""The comparison engine: one pass over two tensors, compiled for the CPU, torch operations elsewhere."""
