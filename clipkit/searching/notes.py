"""The notes of a search result: one line each about unknown words, files, coverage, and why nothing matches."""

from __future__ import annotations

from collections.abc import Sequence

from clipkit.searching.presence import PresenceChecker
from clipkit.searching.ranking import Candidate, Skipped


def unknown_words_notes(model: str, unknown_words: Sequence[str]) -> list[str]:
    """Return a note that names the words the model does not know."""
    if not unknown_words:
        return []
    words = ", ".join(repr(word) for word in unknown_words)
    plural = "s" if len(unknown_words) > 1 else ""
    return [f"the model {model} does not know the word{plural} {words}"]


def file_notes(candidates: Sequence[Candidate], skipped: Skipped, checker: PresenceChecker) -> list[str]:
    """Return notes on hits that are away and on pictures that were skipped because their files cannot be shown."""
    notes = []
    away = sum(candidate.away for candidate in candidates)
    if away:
        hits = "1 hit is" if away == 1 else f"{away:,} hits are"
        notes.append(f"{hits} on a drive or in a folder that is away")
    if skipped.unreadable:
        files = "1 file" if skipped.unreadable == 1 else f"{skipped.unreadable:,} files"
        notes.append(f"skipped {files} that cannot be read at the moment, in {checker.unreadable_folder}")
    if skipped.gone:
        files = "1 file that was" if skipped.gone == 1 else f"{skipped.gone:,} files that were"
        notes.append(f"skipped {files} moved or deleted since the last `clipkit index`")
    if not skipped.complete:
        notes.append("stopped early because too many files are gone; run `clipkit index`, then search again")
    return notes


def coverage_notes(model: str, embedded: int, missing: int) -> list[str]:
    """Return a note if `missing` pictures of the library have no embedding of the model yet."""
    if not missing:
        return []
    total = embedded + missing
    return [
        f"searched {embedded:,} of {total:,} pictures ({100 * embedded // total}%), those embedded with {model}; "
        f"`clipkit index --model {model}` embeds the others"
    ]


def no_match_note(has_candidates: bool, rival: str | None, confidence: float, threshold: float) -> str:
    """Return one line that says why nothing matches; `rival`: the concept that fits the nearest picture better."""
    if not has_candidates:
        return "nothing matches: the search left no pictures to choose from"
    nearest = f"looks more like {rival!r}" if rival else "is too different"
    return (
        f"nothing matches: the nearest picture {nearest} (confidence {confidence:.2f}, a match needs {threshold:.2f})"
    )
