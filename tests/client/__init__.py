"""The client: its calls on the wire, and what they do on the embedded server."""
