"""Traces of current and power: read, gated, integrated; and how long a battery lasts."""
