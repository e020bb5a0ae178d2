"""`python -m sync_scheduler api|worker|migrate`."""

from sync_scheduler.app import main

main()
