"""What is owed to the people a roster is about: to know what is held of them, and to be forgotten."""
