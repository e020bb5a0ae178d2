"""`python -m roster_store api|worker|migrate`."""

from roster_store.app import main

main()
