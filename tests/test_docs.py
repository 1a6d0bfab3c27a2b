"""The site of docs/ is built without a warning: no page outside its menu, no link that leads nowhere."""

from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parent.parent


def test_the_site_builds_and_every_warning_is_an_error(tmp_path: Path) -> None:
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    made = {path.parent.relative_to(tmp_path / "site").as_posix() for path in tmp_path.rglob("index.html")}
    assert {".", "guide/generate", "results/utility", "architecture", "extending"} <= made
