"""The demo's photos: deterministic, without the absent things, and written without any training code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image
from PIL.ExifTags import IFD, Base

from clipkit.samples.photos import ABSENT_THINGS, sample_scenes, write_samples

IMPORTS = """
import json, sys
from pathlib import Path
from clipkit.samples.photos import write_samples
write_samples(Path(sys.argv[1]), 3, size=32)
print(json.dumps(sorted(sys.modules)))
"""

DEMO = """
import json, sys
from clipkit.cli.main import main
code = main(["demo", sys.argv[1], "--scenes", "20"])
sys.stdout.flush()
print(json.dumps([code, [name for name in sys.modules if name.startswith("clipkit.")]]), file=sys.stderr)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)


def test_scenes_are_deterministic_and_lack_the_absent_things():
    scenes = sample_scenes(300)
    assert scenes == sample_scenes(300) and scenes[:40] == sample_scenes(40)
    assert not {placed.thing.name for scene in scenes for placed in scene.placed} & set(ABSENT_THINGS)


def test_photos_have_the_metadata_of_cameras_and_existing_files_are_kept(tmp_path: Path):
    write_samples(tmp_path, 4, size=32)
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert len(paths) == 4
    with Image.open(paths[0]) as image:
        assert image.size == (32, 32)
        exif = image.getexif()
        assert exif[Base.Make] and exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] and exif.get_ifd(IFD.GPSInfo)
    paths[0].write_bytes(b"edited by the user")
    write_samples(tmp_path, 4, size=32)
    assert paths[0].read_bytes() == b"edited by the user"


def test_writing_photos_imports_no_training_code_and_no_torch(tmp_path: Path):
    modules = json.loads(run(IMPORTS, tmp_path).stdout)
    assert not [name for name in modules if name.startswith("clipkit.training")]
    assert not {"torch", "open_clip", "diffusers", "onnxruntime", "faiss"} & set(modules)


def test_the_demo_imports_no_training_code(tmp_path: Path):
    code, modules = json.loads(run(DEMO, tmp_path / "demo").stderr.splitlines()[-1])
    assert code == 0 and "clipkit.samples.photos" in modules
    assert not [name for name in modules if name.startswith("clipkit.training")]
