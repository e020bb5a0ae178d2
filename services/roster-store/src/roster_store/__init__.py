"""Stages what the gateway saw, judges it, applies it in one piece, and serves the roster and its changes."""
