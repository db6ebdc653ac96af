"""The command line: one module per group of commands. Each parses, checks permission, calls one service, prints."""
