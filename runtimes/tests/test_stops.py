from hypothesis import given
from hypothesis import strategies as st

from runtimes.serving.stops import StopText, cut

LETTERS = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(pieces=st.lists(LETTERS, max_size=6), stops=STOPS)
def test_what_is_shown_is_the_text_before_the_first_stop(
    pieces: list[str], stops: list[str]
) -> None:
    shower = StopText(stops)
    shown, arrived = "", ""
    for piece in pieces:
        arrived += piece
        shown += shower.push(piece)
        assert cut(arrived, stops).startswith(shown)
    shown += shower.finish(arrived)
    assert shown == cut(arrived, stops)


def test_text_that_cannot_be_a_stop_is_shown_at_once() -> None:
    shower = StopText(["END"])
    assert [shower.push(piece) for piece in ("one E", "x", " EN", "D two")] == [
        "one ",
        "Ex",
        " ",
        "",
    ]
