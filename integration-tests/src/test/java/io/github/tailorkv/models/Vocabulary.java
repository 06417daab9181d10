package io.github.tailorkv.models;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A made-up language whose every word is one token: printable characters, syllables of a consonant and a vowel, and words
 * of one to three syllables, as many as the vocabulary holds. The merges of its byte pair encoding lead from characters to
 * words, so text round-trips through Jlama's tokenizers, and a text of n words has n tokens.
 */
final class Vocabulary {
    private static final List<String> CONSONANTS = List.of("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p",
            "r", "s", "t", "v", "w", "z");
    private static final List<String> VOWELS = List.of("a", "e", "i", "o", "u");
    private static final int SYLLABLES = CONSONANTS.size() * VOWELS.size();

    static final String BEGIN = "<s>";
    static final String END = "</s>";
    static final String UNKNOWN = "<unk>";
    static final List<String> SPECIAL = List.of(UNKNOWN, BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>",
            "<|end|>");
    static final int BEGIN_ID = SPECIAL.indexOf(BEGIN);

    static final List<String> WORD_PIECE_SPECIAL = List.of("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]");

    private static final int CHARACTERS = '~' - '!' + 1 + 2;

    /** All special tokens, characters, syllables and words of one syllable. */
    static final int SMALLEST = SPECIAL.size() + CHARACTERS + 2 * SYLLABLES;

    private final Map<String, Integer> ids = new LinkedHashMap<>();
    private final List<String> merges = new ArrayList<>();
    private final int firstWord;

    Vocabulary(ModelSpec spec) {
        this(
                spec.vocabulary(),
                spec.architecture() == Architecture.BERT ? WORD_PIECE_SPECIAL : SPECIAL,
                spec.architecture().spaceMarker(),
                spec.architecture().newLineMarker(),
                spec.architecture() == Architecture.BERT);
    }

    private Vocabulary(int size, List<String> special, char space, char newLine, boolean wordPiece) {
        special.forEach(this::add);
        for (char c = '!'; c <= '~'; c++) {
            add(String.valueOf(c));
        }
        add(String.valueOf(space));
        add(String.valueOf(newLine));
        List<String> syllables = new ArrayList<>();
        for (String consonant : CONSONANTS) {
            for (String vowel : VOWELS) {
                syllables.add(consonant + vowel);
                merges.add(consonant + " " + vowel);
            }
        }
        syllables.forEach(s -> add(wordPiece ? "##" + s : s));
        firstWord = ids.size();
        List<String> words = wordPiece ? List.of("") : List.of(String.valueOf(space));
        while (ids.size() < size) {
            words = longer(words, syllables, size);
        }
    }

    private List<String> longer(List<String> words, List<String> syllables, int size) {
        List<String> result = new ArrayList<>();
        for (String word : words) {
            for (String syllable : syllables) {
                if (ids.size() == size) {
                    return result;
                }
                merges.add(word + " " + syllable);
                add(word + syllable);
                result.add(word + syllable);
            }
        }
        return result;
    }

    private void add(String token) {
        ids.put(token, ids.size());
    }

    Map<String, Integer> ids() {
        return ids;
    }

    List<String> merges() {
        return merges;
    }

    /** The first of the tokens that are a word; all that follow are words too. */
    int firstWord() {
        return firstWord;
    }

    List<String> words() {
        return ids.keySet().stream().skip(firstWord).map(w -> Character.isLetter(w.charAt(0)) && w.charAt(0) < 128
                ? w
                : w.substring(1)).toList();
    }
}
