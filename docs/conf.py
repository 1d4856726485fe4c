"""How the documentation is built: ``sphinx-build -n -W docs docs/_build``."""

from selfdb._version import __version__

project = "selfdb"
author = "The selfdb authors"
copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
exclude_patterns = ["_build"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Types of other packages and type variables have no page here to lead to.
nitpick_ignore_regex = [("py:.*", r"(?!selfdb\.).*")]
