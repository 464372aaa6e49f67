"""Truth: which of two float32 implementations is nearer to the same computation in float64 (docs/truth.md)."""
