"""Downloading all files of a model from the model hub."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipkit.errors import DownloadFailed, ModelNotAvailable
from clipkit.models.hub.cache import is_offline
from clipkit.models.hub.downloading import HubFile, download, download_all, listing, translate_download_errors
from clipkit.models.hub.importing import import_model
from clipkit.models.hub.locating import (
    PICKLES,
    TEXT_CONFIG,
    TOKENIZER_FILES,
    config_of,
    hub_source,
    is_here,
    offline_alternatives,
    pickle_refused,
    require_known,
    safe_names,
)
from clipkit.models.reference import ModelRef
from clipkit.models.registry import CONFIG, HUB_PREFIX, WEIGHTS, recommended
from clipkit.progress import ProgressCallback


@dataclass(frozen=True, slots=True)
class PullReport:
    """The result of a pull.

    model: canonical id.
    files: size in bytes of each file that the model now has, by repository and name.
    converted: whether pickled weights were converted to safetensors.
    """

    model: str
    files: dict[str, int] = field(default_factory=dict)
    converted: bool = False

    def to_json(self) -> dict:
        """Return plain data, as `clipkit models pull --json` prints it."""
        return {"model": self.model, "files": self.files, "converted": self.converted}


def pull_model(model: str = "", *, allow_pickle: bool = False, progress: ProgressCallback | None = None) -> PullReport:
    """Download the files of a model, by default the recommended one, into the hub's cache.

    Interrupted downloads are resumed, and every file is verified by checksum, including those already on disk.
    allow_pickle: if a repository has pickled weights only, load them with `weights_only` and keep them as safetensors.

    Raises ModelNotAvailable for a model that is unknown or has pickled weights only, DownloadFailed if the download
    fails.
    """
    ref = ModelRef.resolve(model or recommended().id)
    if ref.folder:
        return PullReport(ref.id)
    require_known(ref)
    if not ref.id.startswith(HUB_PREFIX) and "/" not in ref.id and is_here(ref):
        return PullReport(ref.id)  # imported under a name of its own, which the hub does not know
    if is_offline():
        raise DownloadFailed(f"HF_HUB_OFFLINE forbids downloading {ref.id}: {offline_alternatives(ref.id)}")
    with translate_download_errors(f"model {ref.id}", offline_alternatives(ref.id)):
        return _pull(ref, allow_pickle, progress)


def _pull(model: ModelRef, allow_pickle: bool, progress: ProgressCallback | None) -> PullReport:
    config: list[HubFile] = []
    if model.id.startswith(HUB_PREFIX):
        repository, file = model.id.removeprefix(HUB_PREFIX), WEIGHTS
        files = listing(repository)
        config = _named(files, (CONFIG,))
        if not config:
            raise ModelNotAvailable(f"{repository} has no {CONFIG}, so it is not an open_clip model")
        text = config_of(download(config[0]).parent)["model_cfg"]["text_cfg"]
    else:
        source = hub_source(model)
        repository, file, text = source.repository, source.file, source.text_cfg
        files = listing(repository)
    safe = _named(files, safe_names(file))
    pickled = _named(files, (file, *PICKLES))
    weights = safe[:1] or pickled[:1]
    if not weights:
        raise ModelNotAvailable(f"{repository} has no weights that open_clip can load")
    if not safe and not allow_pickle:
        raise ModelNotAvailable(pickle_refused(model.id))
    wanted = [*config, *weights]
    for extra in dict.fromkeys((text.get("hf_tokenizer_name"), text.get("hf_model_name"))):
        if extra:
            there = files if extra == repository else listing(extra)
            wanted += [f for f in _named(there, (*TOKENIZER_FILES, TEXT_CONFIG)) if f not in wanted]
    download_all(wanted, model.id, progress)
    if not safe:
        import_model(weights[0].path, model.id, allow_pickle=True)
    return PullReport(model.id, {f"{f.repository}/{f.name}": f.size for f in wanted}, converted=not safe)


def _named(files: list[HubFile], names: tuple[str, ...]) -> list[HubFile]:
    """Return the files that have one of the names, in the order of the names."""
    by_name = {f.name: f for f in files}
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


def download_size(model: ModelRef) -> str:
    """Return the size of a model's download in MB, or an empty string if the registry does not know it."""
    return f"{model.entry.megabytes:,} MB" if model.entry and model.entry.megabytes else ""
