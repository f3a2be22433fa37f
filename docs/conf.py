"""Sphinx's configuration: the pages of docs/ and reports/, the reference from docstrings and from the commands' help.

The source folder is the repository itself, so that a link between two files is the same on the site and in the files:

    sphinx-build -c docs . build/site        (`make docs`)

Nothing is loaded from elsewhere: no fonts, no scripts; formulas are MathML.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import trajkit  # noqa: E402

project = "trajkit"
author = "the authors of trajkit"
project_copyright = author
version = release = trajkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "formulas", "docstrings", "commands", "repository"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/*/*.md",
    "reports/*.md",
    "data/demo/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [
    *(".*", "build", "tests", "trajkit", "pipelines", "analyses", "runs", "**/__pycache__", "*.egg-info"),
    *("reports/demo", "data/demo/model*", "data/demo/traces*"),
]
nitpicky = True
nitpick_ignore_regex = [("py:(class|exc|attr)", ".*")]  # of signatures, and names in the middle of a sentence

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "trajkit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # asks for pages, which a browser forbids of files
_BRAND = {"color-sidebar-link-text--top-level": "var(--color-foreground-primary)"}
html_theme_options = {
    "light_css_variables": _BRAND | {"color-brand-primary": "#9a3412", "color-brand-content": "#9a3412"},
    "dark_css_variables": _BRAND | {"color-brand-primary": "#fdba74", "color-brand-content": "#fdba74"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
