package io.github.tailorkv.tools.tasks;

import java.text.Normalizer;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * An answer of a model that was not trained on these tasks: it may think aloud, begin with a phrase, set words in bold and
 * write numbers in groups of three. What counts are whole words, and those after the last "answer:" where there is one.
 */
final class TolerantAnswer {
    private static final Pattern THOUGHT = Pattern.compile("<think>.*?(</think>|\\z)", Pattern.DOTALL);
    private static final Pattern VERDICT = Pattern.compile("answer(?: is| are)?\\s*:");
    private static final Pattern EMPHASIS = Pattern.compile("[*`\"\u201c\u201d#]");
    private static final Pattern GROUP = Pattern.compile("(?<=[0-9])[ ,.'\u2019_](?=[0-9]{3}(?![0-9]))");

    private final String text;

    TolerantAnswer(String answer) {
        String plain = THOUGHT.matcher(answer).replaceAll(" ");
        plain = Normalizer.normalize(plain, Normalizer.Form.NFKC).toLowerCase(Locale.ROOT);
        plain = GROUP.matcher(EMPHASIS.matcher(plain).replaceAll("")).replaceAll("");
        int from = 0;
        Matcher verdict = VERDICT.matcher(plain);
        while (verdict.find()) {
            from = verdict.end();
        }
        text = plain.substring(from);
    }

    /**
     * The share of the references that are there. Whoever names more than was asked for, wrong ones among them, is
     * marked down: naming everything is no answer.
     *
     * @param others wrong answers that can be told from chatter
     */
    double score(List<String> references, List<String> others) {
        long found = references.stream().filter(this::has).count();
        long wrong = others.stream().filter(this::has).count();
        return (double) found / Math.max(references.size(), found + wrong);
    }

    private boolean has(String word) {
        return Pattern
                .compile("(?<![\\p{L}\\p{N}])" + Pattern.quote(word.toLowerCase(Locale.ROOT)) + "(?![\\p{L}\\p{N}])")
                .matcher(text).find();
    }
}
