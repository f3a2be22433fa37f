"""How things display themselves in a notebook: small HTML by itself, without JavaScript, in light and dark.

A class imports its own from here, in its `_repr_html_` and nowhere else.
"""
