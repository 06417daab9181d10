"""The text that the chat is about: people and facts, in the words of the reference model's tasks.
    python3 make_document.py > document.txt
Always the same text. With --questions it prints questions and their answers instead."""
import random
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "model"))
import tasks

SEED, TOKENS, PEOPLE = 20261122, 8000, 24
CHARS_PER_TOKEN = 4.9  # of the reference model's tokenizer on such text, measured


def main(questions):
    r = random.Random(SEED)
    people = [f"{a} {b}" for a, b in zip(r.sample(tasks.FIRST, PEOPLE), r.sample(tasks.LAST, PEOPLE))]
    facts, asked = [], []
    for person in people:
        city, job, food = r.choice(tasks.CITY), r.choice(tasks.JOB), r.choice(tasks.FOOD)
        facts += [f" {person} lives in {city}.", f" {person} works as a {job}.", f" {person} likes to eat {food}."]
        asked += [(f"Where does {person} live?", city), (f"What is the job of {person}?", job),
                  (f"What does {person} like to eat?", food)]
    text, length = [], sum(map(len, facts))
    while length < TOKENS * CHARS_PER_TOKEN:
        text.append(tasks.essay(r))
        length += len(text[-1])
    for fact in facts:
        text.insert(r.randrange(len(text) + 1), fact)
    if questions:
        print("\n".join(f"{question} {answer}" for question, answer in asked))
    else:
        print(textwrap.fill("".join(text).strip(), 120, break_on_hyphens=False))


main(sys.argv[1:] == ["--questions"])
