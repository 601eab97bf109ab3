"""The process that runs for years: jobs on a schedule, by one of many nodes."""
