"""What is written to a table, and what a write means."""
