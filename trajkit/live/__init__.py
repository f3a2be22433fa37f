"""What a person and a client see of running models: a server over any engine, and a page."""
