"""Products that don't ask by OpenID Connect: tickets, LTI, and account linking."""
