"""The command line: click commands that read arguments, call `Library`, and render what it returns."""
