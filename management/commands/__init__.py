"""One module per command; `management.cli.Command` says what each has."""
