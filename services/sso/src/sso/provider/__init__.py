"""Homeroom as OpenID provider of products: who may ask, what they are told, and how they hear of the end (E2, E3)."""
