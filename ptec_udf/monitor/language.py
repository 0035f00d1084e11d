"""Say roughly which language a text is in, with functions of Spark alone: what is asked is whether the mix changes."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

OTHER = "other"
"""Neither a language with words below nor a script below; or too few words to say."""

# Frequent words that tell a language from the others; few stand in more than one list.
_WORDS = {
    "en": "the and of to for with is that by from are its our we in on as at this their",
    "de": "der die das und für mit von ist den ein eine im auf wir dem des zu als auch nicht",
    "fr": "le la les des et pour une est dans du avec qui sur par au aux nos nous leur cette",
    "es": "el los las y para una es con por del en que sus se más como nuestra empresa al",
    "it": "il di e per una con del che della nel sono gli alla dei più nostra azienda le da",
    "pt": "o os as e para uma com do da em que na no dos das mais nossa empresa pela são",
    "nl": "de het een en van voor met is op zijn onze door aan bij dat worden ons ook naar",
}

_SCRIPTS = {"zh": "Han", "ja": "Hiragana", "ko": "Hangul", "ru": "Cyrillic", "ar": "Arabic", "hi": "Devanagari"}
"""Languages named after the script that most texts in it are in."""

_WORDS_READ = 80
_LEAST_WORDS = 2


def language(text: Column) -> Column:
    """Return a language's two letters or ``OTHER``; null for a null text.

    By its script where a letter of it stands among the first characters; else by the most different frequent words.
    """
    beginning = F.lower(F.substring(text, 1, _WORDS_READ * 12))
    words = F.slice(F.split(beginning, r"[^\p{L}]+"), 1, _WORDS_READ)
    # As an array of one, which is made once, whatever is asked of it.
    by_words = F.transform(F.array(words), _by_words)[0]
    found = F.when(text.isNull(), F.lit(None).cast("string"))
    for name in ("ja", *[name for name in _SCRIPTS if name != "ja"]):  # Japanese first: it has Han characters too
        found = found.when(beginning.rlike(rf"\p{{Is{_SCRIPTS[name]}}}{{2}}"), F.lit(name))
    return found.otherwise(by_words)


def _by_words(words: Column) -> Column:
    """Return the language with most frequent words among these; of several, the last by name."""
    counts = [
        F.struct(F.size(F.array_intersect(words, _array(known))).alias("n"), F.lit(name).alias("language"))
        for name, known in _WORDS.items()
    ]
    most = F.array_max(F.array(*counts))
    return F.when(most["n"] < _LEAST_WORDS, F.lit(OTHER)).otherwise(most["language"])


def _array(words: str) -> Column:
    return F.array(*[F.lit(word) for word in words.split()])
