from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.images import decode_pool, decode_worker
from clipkit.images.decode_pool import DecodePool
from clipkit.images.decode_worker import Decoded, decode_file
from clipkit.images.limits import Limits
from clipkit.images.preprocessing import Preprocessing

from .make_files import corners, encoded

PREPROCESSING = Preprocessing(32, (0.5,) * 3, (0.5,) * 3)
unix = pytest.mark.skipif(os.name == "nt", reason="needs signals that Windows lacks")


def itself(path: Path) -> Path:
    return path


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def wait_until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"{number:02}.png")
        paths[-1].write_bytes(encoded(corners(60 + number, 50), "PNG"))
    return paths


def test_order_content_and_failures(pictures: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    pictures[3].write_bytes(b"no picture")
    pictures[5].unlink()
    pictures[7].write_bytes(encoded(corners(900, 900), "TIFF", compression="tiff_lzw")[:-800])
    with DecodePool(2, PREPROCESSING) as pool:
        results = list(pool.decode(enumerate(pictures), path=lambda pair: pair[1]))
        assert [pair for pair, _ in results] == list(enumerate(pictures))
        kinds = {n: result.kind for (n, _), result in results if isinstance(result, UnreadableImage)}
        assert kinds == {3: "not-an-image", 5: "vanished", 7: "truncated"}
        for (number, path), result in results:
            if isinstance(result, Decoded):
                assert (result.width, result.height, result.format) == (60 + number, 50, "PNG")
                assert result.pixels.dtype == np.uint8 and result.pixels.shape == (32, 32, 3)
                assert (result.size, result.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
                np.testing.assert_array_equal(result.pixels, decode_file(path, PREPROCESSING, Limits()).pixels)
            else:
                assert result.path == path
        children = pool.pids
        assert len(children) == 2
        assert len(list(pool.decode(pictures[:1], path=itself))) == 1 and set(pool.pids) == set(children)
        assert list(pool.decode([], path=itself)) == []
    assert alive(children) == [] and pool.pids == []
    assert capfd.readouterr() == ("", ""), "what libtiff prints about the torn file stays in the child"


def test_look_ahead_is_bounded_and_lazy(pictures: list[Path]) -> None:
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield pictures[len(taken) % len(pictures)]

    with DecodePool(2, PREPROCESSING) as pool:
        results = pool.decode(endless(), path=itself)
        assert not taken, "nothing is read before the first result is asked for"
        for count in range(1, 31):
            next(results)
            assert len(taken) <= count + 8
        results.close()
        assert len(list(pool.decode(pictures[:2], path=itself))) == 2, "the pool lives on after an early end"
        children = pool.pids
    assert alive(children) == []


def test_a_longer_look_ahead_and_the_seconds_of_every_file(pictures: list[Path]) -> None:
    taken: list[Path] = []
    seconds: list[float] = []
    files = (taken.append(path) or path for path in pictures)
    with DecodePool(1, PREPROCESSING, ahead=9, on_decoded=seconds.append) as pool:
        results = pool.decode(files, path=itself)
        next(results)
        assert len(taken) == 9
        assert len(list(results)) == len(pictures) - 1
    assert len(seconds) == len(pictures) and min(seconds) > 0


@unix
def test_a_killed_child_costs_one_file(pictures: list[Path]) -> None:
    with DecodePool(1, PREPROCESSING) as pool:
        assert isinstance(next(pool.decode(pictures[:1], path=itself))[1], Decoded)
        (child,) = pool.pids
        os.kill(child, signal.SIGSTOP)  # so that it certainly has the next file when it is killed
        threading.Timer(0.3, os.kill, (child, signal.SIGKILL)).start()
        results = [result for _, result in pool.decode(pictures, path=itself)]
        assert [type(result) for result in results] == [UnreadableImage] + [Decoded] * 19
        assert results[0].kind == "crashed" and "SIGKILL" in results[0].reason
        (child,) = pool.pids
        os.kill(child, signal.SIGKILL)  # while idle: no file is lost
        assert wait_until(lambda: pool.pids == [])
        assert isinstance(next(pool.decode(pictures[:1], path=itself))[1], Decoded)


@unix
def test_a_file_that_hangs_times_out(pictures: list[Path]) -> None:
    with DecodePool(1, PREPROCESSING, timeout=0.5) as pool:
        assert isinstance(next(pool.decode(pictures[:1], path=itself))[1], Decoded)
        os.kill(pool.pids[0], signal.SIGSTOP)
        started = time.monotonic()
        results = [result for _, result in pool.decode(pictures[:3], path=itself)]
        assert time.monotonic() - started < 8
        assert results[0].kind == "timeout" and "0.5 seconds" in results[0].reason
        assert [type(result) for result in results[1:]] == [Decoded, Decoded]


def test_a_large_picture_with_a_short_timeout(tmp_path: Path, pictures: list[Path]) -> None:
    large = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (4000, 4000), np.uint8)
    Image.fromarray(noise).save(large, compress_level=1)
    with DecodePool(1, PREPROCESSING, timeout=0.03) as pool:
        ((_, result),) = pool.decode([large], path=itself)
        assert isinstance(result, UnreadableImage) and result.kind == "timeout"


def test_leaving_early_kills_children_at_once(pictures: list[Path]) -> None:
    with pytest.raises(KeyboardInterrupt), DecodePool(2, PREPROCESSING) as pool:
        for _ in pool.decode(pictures, path=itself):
            children = pool.pids
            raise KeyboardInterrupt
    assert children and alive(children) == []
    with pytest.raises(ValueError):
        next(pool.decode(pictures, path=itself))


@unix
def test_closing_does_not_wait_for_a_hanging_child(pictures: list[Path]) -> None:
    pool = DecodePool(1, PREPROCESSING, timeout=60)
    results = pool.decode(pictures, path=itself)
    next(results)
    (child,) = pool.pids
    os.kill(child, signal.SIGSTOP)
    started = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - started < 5 and alive([child]) == []


def test_children_exit_with_their_parent(tmp_path: Path, pictures: list[Path]) -> None:
    code = f"""if True:
        import os, sys
        from pathlib import Path
        from clipkit.images.preprocessing import Preprocessing
        from clipkit.images.decode_pool import DecodePool
        pool = DecodePool(2, Preprocessing(32, (.5,) * 3, (.5,) * 3))
        results = pool.decode(sorted(Path({os.fspath(tmp_path)!r}).glob("*.png")), path=lambda p: p)
        for _ in range(6):
            next(results)
        print(*pool.pids, flush=True)
        os._exit(9)  # as a killed process: nothing is cleaned up
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    children = [int(pid) for pid in done.stdout.split()]
    assert children and done.returncode == 9
    assert wait_until(lambda: not alive(children))


def test_modules_in_the_working_directory_are_not_imported(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIL.py", "xxhash.py", "pickle.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('a stranger was let in')")
    monkeypatch.chdir(tmp_path)
    with DecodePool(1, PREPROCESSING) as pool:
        assert isinstance(next(pool.decode([Path(pictures[0].name)], path=itself))[1], Decoded)


def test_a_child_that_cannot_start_is_reported_in_one_line(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    (broken / "clipkit").mkdir(parents=True)
    (broken / "clipkit" / "__init__.py").write_text("raise ImportError('this clipkit is broken')")
    monkeypatch.setattr(
        decode_pool, "_environment", lambda: os.environ | {"PYTHONPATH": str(broken), "PYTHONSAFEPATH": "1"}
    )
    with DecodePool(1, PREPROCESSING) as pool, pytest.raises(ClipkitError, match="could not start .*: .*clipkit"):
        next(pool.decode(pictures, path=itself))


def test_a_file_that_changes_while_it_is_read(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path, **options: object):
        picture = original(path, **options)
        path.write_bytes(b"something else")
        return picture

    original = decode_worker.open_picture
    monkeypatch.setattr(decode_worker, "open_picture", slow)
    with pytest.raises(UnreadableImage) as caught:
        decode_file(pictures[0], PREPROCESSING, Limits())
    assert caught.value.kind == "unreadable" and "changed" in caught.value.reason
