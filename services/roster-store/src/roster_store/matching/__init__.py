"""Accounts of products, and which of the roster's people they belong to (D3).

`rule` says who is matched with what, for reading and for tests; `matcher` does the same in SQL for a hundred thousand
people at once. `accounts` and `links` are what products and people do by hand; the two `…_api` modules are their REST
face.
"""
