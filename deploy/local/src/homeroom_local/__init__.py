"""Homeroom on one machine with nothing installed but Python (architecture §5): `homeroom up` and `homeroom demo`."""
