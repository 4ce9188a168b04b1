"""The web page over a library: a template, styles and ES modules that call the HTTP API."""
