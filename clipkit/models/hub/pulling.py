"""All files of a space from the model hub: `pull_model`."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipkit.errors import DownloadFailed, ModelNotAvailable
from clipkit.models.hub.cache import is_offline
from clipkit.models.hub.downloading import HubFile, download, download_all, in_one_line, listing
from clipkit.models.hub.locating import (
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
from clipkit.models.registry import CONFIG, HUB_PREFIX, WEIGHTS, canonical_id, checkpoint_folder, entry, recommended
from clipkit.progress import ProgressCallback


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
    Raises ModelNotAvailable for a space that does not exist or has only a pickle, DownloadFailed for what goes wrong
    between here and the hub.
    """
    space = canonical_id(space or recommended().id)
    if checkpoint_folder(space):
        return PullReport(space)
    if not known_to_exist(space):
        raise ModelNotAvailable(unknown(space))
    if not space.startswith(HUB_PREFIX) and "/" not in space and on_disk(space):
        return PullReport(space)  # imported under a name of its own: there is nowhere to pull it from
    if is_offline():
        raise DownloadFailed(f"HF_HUB_OFFLINE forbids to download {space}: {offline_ways(space)}")
    with in_one_line(f"model {space}", offline_ways(space)):
        return _pull(space, allow_pickle, progress)


def _pull(space: str, allow_pickle: bool, progress: ProgressCallback | None) -> PullReport:
    if space.startswith(HUB_PREFIX):
        repository, file = space.removeprefix(HUB_PREFIX), WEIGHTS
        files = listing(repository)
        config = _named(files, (CONFIG,))
        if not config:
            raise ModelNotAvailable(f"{repository} has no {CONFIG}: it is no model of open_clip's")
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
        raise ModelNotAvailable(f"{repository} has no weights that open_clip reads")
    if not safe and not allow_pickle:
        raise ModelNotAvailable(pickle_refused(space))
    wanted = [*config, *weights]
    for extra in dict.fromkeys((text.get("hf_tokenizer_name"), text.get("hf_model_name"))):
        if extra:
            there = files if extra == repository else listing(extra)
            wanted += [f for f in _named(there, (*TOKENIZER_FILES, TEXT_CONFIG)) if f not in wanted]
    download_all(wanted, space, progress)
    if not safe:
        from clipkit.models.hub.importing import import_model

        import_model(weights[0].path, space, allow_pickle=True)
    return PullReport(space, {f"{f.repository}/{f.name}": f.size for f in wanted}, converted=not safe)


def _named(files: list[HubFile], names: tuple[str, ...]) -> list[HubFile]:
    """Those of the files that have one of the names, in the order of the names."""
    by_name = {f.name: f for f in files}
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


def download_size(space: str) -> str:
    """What a download of the space costs, for people; empty where the registry does not know."""
    known = entry(space)
    return f"{known.megabytes:,} MB" if known and known.megabytes else ""
