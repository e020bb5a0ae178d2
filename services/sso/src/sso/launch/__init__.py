"""From whoever knocks to whoever is signed in, whichever protocol they came by."""
