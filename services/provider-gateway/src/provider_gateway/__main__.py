"""`python -m provider_gateway api|worker|migrate`."""

from provider_gateway.app import main

if __name__ == "__main__":  # reading processes import this file, too
    main()
