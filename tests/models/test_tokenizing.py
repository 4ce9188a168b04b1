"""Tokenising without torch returns open_clip's token ids for any text."""

from __future__ import annotations

import random

import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.matching import concepts
from clipkit.models.onnx.export import describe_tokenizer
from clipkit.models.tokenizing import ClipTokenizer, clean, tokenizer_from

UNUSUAL = [
    "",
    " ",
    "\t\n\r\x0b",
    "'s 'S don't WE'LL I'D",
    "<start_of_text> a <END_OF_TEXT> <end_of_text>",
    "&amp;lt; &eacute;&#x41;",
    "Ünïcödé ﬁne ﬀ",
    "naÃ¯ve cafÃ© â€œquotedâ€\x9d",
    "“curly” ‘quotes’ — dash…",
    "犬と猫 在海滩上",
    "한국어 텍스트",
    "كلب على الشاطئ",
    "👨‍👩‍👧‍👦 🇩🇪 ❤️",
    "e\u0301 \u200b\u200d\ufeff \xa0\u3000",
    "İstanbul ıI ſ K Å ẞ",
    "١٢٣ Ⅷ ½ ²",
    "\x1b[31mred\x1b[0m",
    "\x00\x01\x7f\x80\x9f",
    "a" * 5000,
    "word " * 200,
    "_ __ a_b",
    "\U0010ffff\ue000",
    "１２３ＡＢＣ",
    "x\u2028y\u2029z\x85w",
    "\u0130\u0307",
    "¹²³",
    "'ſ",
    'a.b,c;d:e!f?g(h)i/j+k*l=m%n$o#p@q-r"s"',
]


@pytest.fixture(scope="module", params=["lower", "whitespace", "canonicalize"])
def pair(request):
    return ClipTokenizer(24, request.param), open_clip.SimpleTokenizer(context_length=24, clean=request.param)


def test_unusual_texts_and_all_concepts(pair):
    ours, theirs = pair
    texts = [*UNUSUAL, *concepts()]
    assert np.array_equal(ours(texts), theirs(texts).numpy())
    assert ours([]).shape == (0, 24)


def test_thousands_of_random_texts_of_many_alphabets(pair):
    ours, theirs = pair
    rng = random.Random(5)
    blocks = [(32, 126)] * 4 + [(0, 0x2FF), (0x370, 0x5FF), (0x900, 0xDFF), (0x2000, 0x2BFF), (0x3000, 0x9FFF)]
    blocks += [(0xA000, 0xD7FF), (0xF900, 0xFFFF), (0x1F300, 0x1FAFF), (0x10000, 0x10FFFF)]
    texts = []
    for _ in range(3000):
        low, high = rng.choice(blocks)
        texts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 20))))
    texts = [text for text in texts if not any(0xD800 <= ord(c) <= 0xDFFF for c in text)]
    assert np.array_equal(ours(texts), theirs(texts).numpy())


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text):
    theirs = open_clip.tokenizer._tokenizer
    assert np.array_equal(ClipTokenizer(77)([text]), theirs([text]).numpy())


@settings(max_examples=400, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_any_ascii_text(text):
    """Most of them take the path without ftfy and regex."""
    assert np.array_equal(ClipTokenizer(77)([text]), open_clip.tokenizer._tokenizer([text]).numpy())
    for how in ("lower", "whitespace", "canonicalize"):
        assert clean(text, how) == open_clip.tokenizer.get_clean_fn(how)(text)


def test_lone_surrogates_are_accepted():
    assert ClipTokenizer(8)(["a \udcff b"]).shape == (1, 8)


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_tokenizers_of_the_hub(kind, tmp_path):
    """Trained here and saved in the hub's format: one that ends and pads like SigLIP's, one with special tokens at both
    ends."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["<pad>", "</s>", "<unk>", "<s>"]
    if kind == "t5":
        built = Tokenizer(models.Unigram())
        built.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>")
        template = "$A </s>"
    else:
        built = Tokenizer(models.WordPiece(unk_token="<unk>"))
        built.normalizer, built.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
        template = "<s> $A </s>"
    built.train_from_iterator(concepts(), trainer)
    built.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("</s>", 1), ("<s>", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", sep_token="</s>"
    ).save_pretrained(tmp_path / "hub")
    cleaning = "canonicalize" if kind == "t5" else "whitespace"
    theirs = open_clip.tokenizer.HFTokenizer(
        str(tmp_path / "hub"), context_length=16, clean=cleaning, strip_sep_token=kind == "bert"
    )
    (tmp_path / "export").mkdir()
    ours = tokenizer_from(describe_tokenizer(theirs, tmp_path / "export"), tmp_path / "export")
    texts = [*UNUSUAL, *concepts()]
    assert np.array_equal(ours(texts), theirs(texts).numpy())
    assert ours(["a dog"]).shape == (1, 16)
