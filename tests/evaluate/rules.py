"""Rules that the tests of `--judge module:function` name."""


def starts_with_good(_prompt: str, first: str, second: str) -> str:
    """The answer that begins with good; a tie where both do or none does."""
    goods = first.startswith("good"), second.startswith("good")
    return {(True, False): "first", (False, True): "second"}.get(goods, "tie")


def takes_the_second(_prompt: str, _first: str, _second: str) -> str:
    return "second"


def says_nonsense(_prompt: str, _first: str, _second: str) -> str:
    return "left"


def fails(_prompt: str, _first: str, _second: str) -> str:
    raise AssertionError("identical answers are not judged")
