"""The ledger's ear: every random draw of a stretch of code, in order, without disturbing it."""

from parity.draws.record import Draw, DrawLog, record_draws

__all__ = ["Draw", "DrawLog", "record_draws"]
