"""Where-clauses and collections, and how they are carried out."""
