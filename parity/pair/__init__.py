"""Audit of any pair of PyTorch models: `audit_pair`, or `python -m parity pair ADAPTER.py` (docs/your_own_pair.md)."""

from parity.pair.audit import PairAudit, audit_pair

__all__ = ["PairAudit", "audit_pair"]
