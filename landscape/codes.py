"""Integer codes that explain themselves: what traced code returns instead of raising."""

import enum


class Coded(enum.IntEnum):
    """An integer code with a `sentence`: what it means and, where something can be done about it, what."""

    sentence: str

    def __new__(cls, value: int, sentence: str):
        """An integer with its sentence."""
        code = int.__new__(cls, value)
        code._value_, code.sentence = value, sentence
        return code

    @property
    def label(self) -> str:
        """The name as words: "strict saddle"."""
        return self.name.lower().replace("_", " ")
