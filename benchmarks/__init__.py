"""What the client costs, measured against its peers in one run: see README.rst."""
