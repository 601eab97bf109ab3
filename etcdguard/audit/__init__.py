"""The audit of backups: facts gathered from repositories, judged by controls, reported as evidence."""
