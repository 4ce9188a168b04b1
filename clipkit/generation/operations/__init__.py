"""Operations on pictures: what a decoder can do with a photograph, besides generating from words."""
