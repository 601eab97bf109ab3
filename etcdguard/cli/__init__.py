"""Click commands, one file a command."""
