"""The page of a service, its API and STOW-RS, over HTTP."""
