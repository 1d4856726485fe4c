"""The kernel: transport, tokens and their parts. It knows no backend by name."""
