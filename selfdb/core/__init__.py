"""The kernel: transport, tokens and their parts. It knows no backend by name."""

import logging

# Here and not in the package, which is imported for less than what `logging` takes: nothing below it logs.
logging.getLogger("selfdb").addHandler(logging.NullHandler())
