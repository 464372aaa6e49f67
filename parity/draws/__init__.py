"""The ledger's ear: every random draw of a stretch of code, in order, without disturbing it."""

from parity.draws.record import Draw, DrawLog, drawn, record_draws

__all__ = ["Draw", "DrawLog", "drawn", "record_draws"]
