"""The command line: click commands that read arguments, call `Library` and render the result.

Modules here import other packages of clipkit inside functions, so that `clipkit --help` starts at once.
"""
