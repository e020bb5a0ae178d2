"""The portals of the made-up district, identity providers over its people, and a product they sign in to."""
