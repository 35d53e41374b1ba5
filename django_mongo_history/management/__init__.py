"""What the management commands share: arguments, output, errors. The work itself is done further in."""
