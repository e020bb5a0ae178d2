"""Identity connections: which doors a district has, and whom we trust behind each."""
