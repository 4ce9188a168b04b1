"""The version of clipkit."""

__version__ = "0.1.0"
