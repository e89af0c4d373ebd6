"""The commands of the command line, a module each: `add(subparsers)` declares it, `run(arguments)` does it."""
