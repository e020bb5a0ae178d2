"""Sign-in by SAML 2.0: we are the service provider."""
