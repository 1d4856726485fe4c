"""Keys and values, and how the file holds them."""
