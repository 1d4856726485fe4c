"""One file a family of routes: what a request may carry and what answers it; the rules live in the domain files."""
