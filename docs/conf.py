"""Sphinx configuration."""

import os
import sys
from pathlib import Path

import anomaly_estimators

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "anomaly_estimators"
author = "the anomaly_estimators developers"
copyright = f"2026, {author}"
version = release = anomaly_estimators.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # serves the scripts and fonts from the pages themselves
    "sphinx_gallery.gen_gallery",
    "result_tables",
    "self_contained",
]
exclude_patterns = ["_build", "auto_examples/**/*.py", "auto_examples/**/*.ipynb"]
default_role = "py:obj"
nitpicky = False

# -- API pages ---------------------------------------------------------------------------------

autosummary_generate = True
autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_typehints = "none"  # numpydoc's parameter sections say it in words
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# -- Gallery -----------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    # DOCS_GALLERY=0 shows the examples without running them, in a fraction of the time.
    "plot_gallery": os.environ.get("DOCS_GALLERY", "1") != "0",
    "abort_on_example_error": True,
    "doc_module": ("anomaly_estimators",),
    "backreferences_dir": "generated/backreferences",
    "show_memory": False,
    "write_computation_times": False,  # a page that fetches its style from elsewhere
    "remove_config_comments": True,
    # The pictures that an example writes belong into the build folder.
    "reset_argv": "gallery_arguments.gallery_arguments",
}

# -- Links into other projects need the network, so they are asked for -------------------------

if os.environ.get("DOCS_INTERSPHINX", "0") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
    }

# -- Look --------------------------------------------------------------------------------------

templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "anomaly_estimators"
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}
html_static_path = ["_static"]
html_css_files = ["wrap.css"]
html_show_sourcelink = False
html_copy_source = False
