"""The only places that run commands: this machine, and others over SSH."""
