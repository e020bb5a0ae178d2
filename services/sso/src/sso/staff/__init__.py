"""People who sign in to Homeroom itself: admins, support and teachers; their roles, and what those let them do."""
