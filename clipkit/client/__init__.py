"""The same library, behind a server on this or another machine."""
