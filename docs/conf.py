"""The documentation site: `make docs` builds it, without a network and with warnings as errors."""

import sys
import warnings
from pathlib import Path

import isomix

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "isomix"
author = "The isomix developers"
project_copyright = author
version = release = isomix.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "pages_from_code",
    "internal_names",
    "drawings",
]
exclude_patterns = ["_*", "examples", "tutorials/*.ipynb", "tutorials/*.py"]
templates_path = ["_templates"]
nitpicky = True
# What numpydoc links to by itself in docstrings that scikit-learn wrote.
nitpick_ignore_regex = [(r"py:.*", r"(sklearn|numpy|pandas|scipy|torch)\..*")]

# Pages in Markdown
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
suppress_warnings = ["config.cache"]

# Reference
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say the types, with shapes
autodoc_mock_imports = ["torch"]  # only the inversion needs it when it is imported
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# Tutorials
warnings.filterwarnings("error", category=isomix.IsomixWarning)
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/t\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "backreferences_dir": "reference/backreferences",
    "doc_module": ("isomix",),
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # that page loads scripts from elsewhere
    "show_signature": False,
    "image_scrapers": ("matplotlib",),
    "capture_repr": ("_repr_html_",),
    "plot_gallery": True,
    "matplotlib_animations": False,
}

# Looks. Everything is served from the site itself: no web font, no script from elsewhere.
html_theme = "pydata_sphinx_theme"
html_title = "isomix"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_favicon = "../src/isomix/web/static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "show_prev_next": True,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "search": []}
