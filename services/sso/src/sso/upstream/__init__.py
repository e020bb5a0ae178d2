"""Sign-in at an OpenID provider or by plain OAuth 2: we are the client."""
