"""Command-line arguments that the gallery passes to the examples."""

from pathlib import Path

BUILD = Path(__file__).resolve().parents[1] / "_build"


def gallery_arguments(gallery_conf, script_vars):
    """Send the picture that the quickstart writes into the build folder."""
    if Path(script_vars["src_file"]).name != "plot_quickstart.py":
        return []
    BUILD.mkdir(exist_ok=True)
    return ["--output", str(BUILD / "quickstart.png")]
