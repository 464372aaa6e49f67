"""results.json as one HTML file. Reading order: tables, charts, render; the audit itself uses pictures."""

from parity.report.render import render_report, write_report

__all__ = ["render_report", "write_report"]
