"""OneRoster CSV sets, bulk and delta, for whoever may read a roster (F1)."""
