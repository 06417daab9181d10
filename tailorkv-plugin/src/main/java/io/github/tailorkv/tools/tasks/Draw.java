package io.github.tailorkv.tools.tasks;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.function.Supplier;

/** Draws the parts of a task. The sequence is fixed by the seed: {@link SplittableRandom} is specified to the bit. */
final class Draw {
    private static final String HEX = "0123456789abcdef";
    private static final String CONSONANTS = "bdfgklmnprstvz";
    private static final String VOWELS = "aeiou";
    private static final int[] UUID_GROUPS = {8, 4, 4, 4, 12};

    private final SplittableRandom random;

    Draw(long seed) {
        random = new SplittableRandom(seed);
    }

    int below(int bound) {
        return random.nextInt(bound);
    }

    boolean coin() {
        return random.nextBoolean();
    }

    <T> T of(List<T> values) {
        return values.get(random.nextInt(values.size()));
    }

    private char of(String letters) {
        return letters.charAt(random.nextInt(letters.length()));
    }

    /** Puts the elements in a random order (Fisher and Yates). */
    <T> void shuffle(List<T> values) {
        for (int i = values.size() - 1; i > 0; i--) {
            int j = random.nextInt(i + 1);
            T held = values.get(i);
            values.set(i, values.get(j));
            values.set(j, held);
        }
    }

    /** Some of the elements in a random order. */
    <T> List<T> sample(List<T> values, int count) {
        List<T> all = new ArrayList<>(values);
        shuffle(all);
        return all.subList(0, count);
    }

    List<String> distinct(int count, Supplier<String> source) {
        Set<String> all = new LinkedHashSet<>();
        while (all.size() < count) {
            all.add(source.get());
        }
        return new ArrayList<>(all);
    }

    String key() {
        return of(Lexicon.ADJECTIVES) + "-" + of(Lexicon.NOUNS);
    }

    String number() {
        return Integer.toString(random.nextInt(1_000_000, 9_999_999));
    }

    String uuid() {
        StringBuilder text = new StringBuilder();
        for (int group : UUID_GROUPS) {
            text.append(text.isEmpty() ? "" : "-");
            for (int i = 0; i < group; i++) {
                text.append(of(HEX));
            }
        }
        return text.toString();
    }

    /** A name of a variable. */
    String variable() {
        return random.ints(5, 'A', 'Z' + 1).collect(StringBuilder::new, StringBuilder::appendCodePoint,
                StringBuilder::append).toString();
    }

    String variableValue() {
        return Integer.toString(random.nextInt(10_000, 99_999));
    }

    /** A word that can be spoken and means nothing. */
    String pseudoWord(int syllables) {
        StringBuilder word = new StringBuilder();
        for (int i = 0; i < syllables; i++) {
            word.append(of(CONSONANTS)).append(of(VOWELS));
        }
        return word.toString();
    }

    String person() {
        return of(Lexicon.FIRST_NAMES) + " " + of(Lexicon.LAST_NAMES);
    }

    /** A sentence of prose, with a space before it. */
    String sentence() {
        return switch (below(4)) {
            case 0 -> " " + of(Lexicon.TIMES) + " the " + of(Lexicon.ADJECTIVES) + " " + of(Lexicon.NOUNS) + " "
                    + of(Lexicon.VERBS) + " " + of(Lexicon.PLACES) + ".";
            case 1 -> " " + of(Lexicon.FIRST_NAMES) + " " + of(Lexicon.VERBS) + " a " + of(Lexicon.ADJECTIVES) + " "
                    + of(Lexicon.NOUNS) + " near " + of(Lexicon.PLACES) + ".";
            case 2 -> " The " + of(Lexicon.NOUNS) + " by " + of(Lexicon.PLACES) + " was " + of(Lexicon.ADJECTIVES)
                    + " and " + of(Lexicon.ADJECTIVES) + ".";
            default -> " " + of(Lexicon.TIMES) + " " + of(Lexicon.FIRST_NAMES) + " and " + of(Lexicon.FIRST_NAMES)
                    + " talked about the " + of(Lexicon.ADJECTIVES) + " " + of(Lexicon.NOUNS) + ".";
        };
    }
}
