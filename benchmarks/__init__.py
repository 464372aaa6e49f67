"""Timings that back the figures in the documentation; nothing is imported from here."""
