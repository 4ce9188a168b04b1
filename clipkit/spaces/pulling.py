"""All files of a space from the model hub: `pull_model`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clipkit.errors import DownloadFailed, SpaceNotAvailable
from clipkit.progress import Progress, ProgressCallback
from clipkit.spaces.downloading import HubFile, download, listing, set_main
from clipkit.spaces.hub import endpoint, is_offline
from clipkit.spaces.locating import (
    PICKLES,
    TEXT_CONFIG,
    TOKENIZER_FILES,
    config_of,
    known_to_exist,
    offline_ways,
    on_disk,
    open_clip_entry,
    pickle_refused,
    safe_names,
    unknown,
)
from clipkit.spaces.registry import CONFIG, HUB_PREFIX, WEIGHTS, canonical_id, checkpoint_folder, entry, recommended

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did: the space, the files that it now has with their bytes, and whether weights were converted."""

    space: str
    files: dict[str, int] = field(default_factory=dict)
    converted: bool = False

    def to_json(self) -> dict:
        """Plain data, as `clipkit models pull --json` prints it."""
        return {"space": self.space, "files": self.files, "converted": self.converted}


def pull_model(space: str = "", *, allow_pickle: bool = False, progress: ProgressCallback | None = None) -> PullReport:
    """Downloads what a space is loaded from into the hub's cache; the recommended space if none is named.

    A download that broke off goes on where it was; every file is checked by its hash, also those that are there. Where
    a repository has only pickled weights, `allow_pickle` loads them with `weights_only` and keeps them as safetensors.
    Raises SpaceNotAvailable for a space that does not exist or has only a pickle, DownloadFailed for what goes wrong
    between here and the hub.
    """
    space = canonical_id(space or recommended().id)
    if checkpoint_folder(space):
        return PullReport(space)
    if not known_to_exist(space):
        raise SpaceNotAvailable(unknown(space))
    if not space.startswith(HUB_PREFIX) and "/" not in space and on_disk(space):
        return PullReport(space)  # imported under a name of its own: there is nowhere to pull it from
    if is_offline():
        raise DownloadFailed(f"HF_HUB_OFFLINE forbids to download {space}: {offline_ways(space)}")
    with _in_one_line(space):
        return _pull(space, allow_pickle, progress)


def _pull(space: str, allow_pickle: bool, progress: ProgressCallback | None) -> PullReport:
    meter = _Meter(space, progress)
    if space.startswith(HUB_PREFIX):
        repository, file = space.removeprefix(HUB_PREFIX), WEIGHTS
        files = listing(repository)
        config = _named(files, (CONFIG,))
        if not config:
            raise SpaceNotAvailable(f"{repository} has no {CONFIG}: it is no model of open_clip's")
        text = config_of(download(config[0]).parent)["model_cfg"]["text_cfg"]
    else:
        known = entry(space)
        if known:
            repository, file = known.hub, known.file
            text = {"hf_tokenizer_name": known.tokenizer, "hf_model_name": known.text_model}
        else:
            _, _, repository, file, text = open_clip_entry(space)
        files, config = listing(repository), []
    safe = _named(files, safe_names(file))
    pickled = _named(files, (file, *PICKLES))
    weights = safe[:1] or pickled[:1]
    if not weights:
        raise SpaceNotAvailable(f"{repository} has no weights that open_clip reads")
    if not safe and not allow_pickle:
        raise SpaceNotAvailable(pickle_refused(space))
    wanted = [*config, *weights]
    for extra in dict.fromkeys((text.get("hf_tokenizer_name"), text.get("hf_model_name"))):
        if extra:
            there = files if extra == repository else listing(extra)
            wanted += [f for f in _named(there, (*TOKENIZER_FILES, TEXT_CONFIG)) if f not in wanted]
    meter.total = sum(f.size for f in wanted)
    for f in wanted:
        download(f, meter.add)
    for repository_, commit in {f.repository: f.commit for f in wanted}.items():
        set_main(repository_, commit)
    if not safe:
        from clipkit.spaces.importing import import_model

        import_model(weights[0].path, space, allow_pickle=True)
    return PullReport(space, {f"{f.repository}/{f.name}": f.size for f in wanted}, converted=not safe)


def _named(files: list[HubFile], names: tuple[str, ...]) -> list[HubFile]:
    """Those of the files that have one of the names, in the order of the names."""
    by_name = {f.name: f for f in files}
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


SHOWN_EVERY_S = 0.1


class _Meter:
    """Bytes as progress, in megabytes, at most every `SHOWN_EVERY_S`."""

    def __init__(self, space: str, progress: ProgressCallback | None) -> None:
        self.total, self._done, self._progress = 0, 0, progress
        self._stage, self._started, self._shown = f"downloading {space}, MB", time.monotonic(), 0.0

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._progress and (now - self._shown > SHOWN_EVERY_S or self._done >= self.total):
            self._shown = now
            done, total = self._done // MEGABYTE, max(1, self.total // MEGABYTE)
            self._progress(Progress(self._stage, done, total, done / max(1e-9, now - self._started)))


@contextmanager
def _in_one_line(space: str) -> Iterator[None]:
    """What huggingface_hub and its HTTP client raise, as one line that says what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        yield
    except (DownloadFailed, SpaceNotAvailable):
        raise
    except GatedRepoError as error:
        raise DownloadFailed(f"{space} is given only to who has accepted its terms: do so on {endpoint()}") from error
    except RepositoryNotFoundError as error:
        raise DownloadFailed(f"{endpoint()} has no model {space}, or it is private: check the name") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise DownloadFailed(
            f"{endpoint()} answers with {status} for {space}; what has come is kept, try again later, or "
            f"{offline_ways(space)}"
        ) from error
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        cause = "offline mode is on" if isinstance(error, OfflineModeIsEnabled) else _first_line(error)
        raise DownloadFailed(
            f"{space} cannot be downloaded from {endpoint()} ({cause}); what has come is kept, the same command goes "
            f"on from there; offline, {offline_ways(space)}"
        ) from error


def _is_of_the_network(error: BaseException) -> bool:
    """The HTTP client differs by version of huggingface_hub (requests, httpx), and their errors have no common base."""
    clients = ("requests", "urllib3", "httpx", "httpcore", "huggingface_hub", "h11")
    return isinstance(error, OSError) or any(
        kind.__module__.partition(".")[0].startswith(clients) for kind in type(error).__mro__
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]


def download_size(space: str) -> str:
    """What a download of the space costs, for people; empty where the registry does not know."""
    known = entry(space)
    return f"{known.megabytes:,} MB" if known and known.megabytes else ""
