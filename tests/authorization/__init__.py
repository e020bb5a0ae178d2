"""Who may call what: a rule for every route of every service, and what checks that it holds."""
