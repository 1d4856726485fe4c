"""What is called after a write, and the outbox that keeps it until it is done."""
