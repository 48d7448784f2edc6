"""Logins: begin, callback, the first saved token; a login by another person; logout and revocation."""
