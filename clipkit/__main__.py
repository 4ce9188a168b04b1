"""`python -m clipkit`."""

from clipkit.cli.main import run

if __name__ == "__main__":
    run()
