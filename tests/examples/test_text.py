import pytest

from examples.places.text import NotEnoughText, languages, readability, syllables


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("cat", 1), ("the", 1), ("made", 1), ("table", 2), ("jumped", 1), ("wanted", 2), ("makes", 1), ("boxes", 2),
        ("houses", 2), ("water", 2), ("readability", 5), ("be", 1), ("tree", 1), ("agreed", 2), ("rhythm", 1),
        ("hmm", 1),
    ],
)  # fmt: skip
def test_syllables_of_common_words(word: str, count: int) -> None:
    assert syllables(word) == count


def test_readability_is_the_flesch_formula() -> None:
    result = readability("The cat sat on the mat. It was happy!")

    assert (result.sentences, result.words, result.syllables) == (2, 9, 10)
    assert result.reading_ease == round(206.835 - 1.015 * 9 / 2 - 84.6 * 10 / 9, 1)
    assert result.grade == round(0.39 * 9 / 2 + 11.8 * 10 / 9 - 15.59, 1)


def test_plain_text_reads_easier_than_official_text() -> None:
    plain = readability("We count each call. You pay for what you use.")
    official = readability("Remuneration is determined periodically according to consumption documentation.")

    assert plain.reading_ease > 80 > 0 > official.reading_ease


def test_text_without_end_is_one_sentence() -> None:
    assert readability("no end at all").sentences == 1


@pytest.mark.parametrize("text", ["...", "12 34", "!?"])
def test_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(NotEnoughText):
        readability(text)
    with pytest.raises(NotEnoughText):
        languages(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where can I buy a ticket for the bus to the station?", "en"),
        ("Wo kann ich eine Fahrkarte für den Bus zum Bahnhof kaufen?", "de"),
        ("Où puis-je acheter un billet pour le bus vers la gare ?", "fr"),
        ("Где я могу купить билет на автобус до вокзала?", "ru"),
    ],
)
def test_language_is_found(text: str, code: str) -> None:
    assert languages(text)[0][0] == code


def test_same_text_gets_the_same_answer() -> None:
    assert all(languages("Hola mundo hello world") == languages("Hola mundo hello world") for _ in range(5))
