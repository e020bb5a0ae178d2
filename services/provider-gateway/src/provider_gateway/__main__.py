"""`python -m provider_gateway api|worker|migrate`."""

from provider_gateway.app import main

main()
