"""Logins that need requests of their own: tokens, SAS signatures, a visit of a login host, activation."""
